"""Detectors: cost, gradients, routes, what is refused, targets of every kind, other classes, frozen scans, imports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
from mambasdk.errors import CheckpointError, DtypeError, InvalidArgumentError, ShapeError
from mambasdk.testing.golden import scatter
from mambasdk_vision.families.fer_yolo_mamba import FerVSSBlock
from mambasdk_vision.families.mamba_yolo import ODSSBlock, XSSBlock
from mambasdk_vision.families.mamba_yolo.assignment import assign as assign_by_task
from mambasdk_vision.nn.boxes import box_iou, complete_iou
from mambasdk_vision.nn.routed_scan import RoutedScan
from mambasdk_vision.nn.routes import cross_routes, diagonal_routes

FAMILIES = ["mamba_yolo", "fer_yolo_mamba"]
Make = Callable[..., Any]

# 10^9 floating-point operations of one image of 640 x 640, two for a multiply-add: of convolutions, whose linear layers
# are convolutions in the authors' code, and of the scans' own projections (counted in the configurations' networks).
COST = {"mamba-yolo-t": (14.1, 2.0), "mamba-yolo-b": (49.4, 5.0), "mamba-yolo-l": (155.4, 17.3)}


@pytest.mark.parametrize("variant", COST)
def test_operations_are_the_published_ones(variant: str) -> None:
    model: Any = mambasdk.create_model(variant, device="meta").eval()
    layers: list[int] = []

    def note(layer: Any, _: Any, out: Tensor) -> None:
        places = out.numel() // layer.weight.shape[0]
        layers.append(2 * places * layer.weight.numel())

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(note)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 640, 640, device="meta"))
    counts = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    scans = sum(count for name, count in counts.items() if "selective_scan" in name)
    convolutions, projections = COST[variant]
    assert sum(layers) / 1e9 == pytest.approx(convolutions, rel=0.01)
    # All products but those of layers; their published figures have one decimal.
    assert (sum(counts.values()) - scans - sum(layers)) / 1e9 == pytest.approx(projections, abs=0.06)
    assert scans > 0


@pytest.mark.parametrize(
    "block", [lambda: ODSSBlock(8, 8), lambda: XSSBlock(12, 8, 2), lambda: FerVSSBlock(64)], ids=["odss", "xss", "fer"]
)
def test_derivatives_of_a_block_are_those_of_finite_differences(block: Callable[[], nn.Module]) -> None:
    """Along random directions of the map and of all parameters together."""
    torch.manual_seed(0)
    model = scatter(block(), 3).double().eval()
    channels = {ODSSBlock: 8, XSSBlock: 12, FerVSSBlock: 64}[type(model)]
    x = torch.randn(1, channels, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        weight = torch.randn(model(x).shape, dtype=torch.float64)
    points = [x.requires_grad_(), *model.parameters()]
    gradients = torch.autograd.grad((model(x) * weight).sum(), points)
    step = 1e-6
    for seed in range(3):
        torch.manual_seed(seed)
        direction = [torch.randn_like(point) for point in points]
        expected = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
        values = []
        with torch.no_grad():
            for sign in (1, -2):
                for point, d in zip(points, direction, strict=True):
                    point.add_(sign * step * d)
                values.append(float((model(x) * weight).sum()))
            for point, d in zip(points, direction, strict=True):
                point.add_(step * d)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (6, 4), (5, 5), (1, 7), (3, 1), (1, 1), (40, 24)], ids=str)
def test_every_route_visits_every_pixel_once(size: tuple[int, int]) -> None:
    height, width = size
    routes = diagonal_routes(height, width)
    assert routes.dtype == torch.int32
    pixels = torch.arange(height * width, dtype=torch.int32)
    assert torch.equal(routes.sort(dim=1).values, pixels.expand(8, -1))
    assert torch.equal(routes[:4], cross_routes(height, width))
    merged = torch.zeros(height * width).index_add(0, routes.flatten().long(), routes.flatten().float())
    assert torch.equal(merged, 8 * pixels.float())
    rows, columns = routes // width, routes % width
    for diagonal, step in ((routes[4], 1), (routes[5], -1)):  # down one row and sideways one column within a diagonal
        row, column = (diagonal // width).view(width, height), (diagonal % width).view(width, height)
        assert torch.equal(row, torch.arange(height).expand(width, -1))
        assert torch.equal((column[:, 1:] - column[:, :-1] - step) % width, torch.zeros(width, height - 1).int())
        assert torch.equal(column[:, 0], torch.arange(width))
    assert torch.equal(rows[6:], rows[4:6].flip(1))
    assert torch.equal(columns[6:], columns[4:6].flip(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_images_are_named_with_a_way_out(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    for size in ((33, 64), (64, 40), (48, 48)):
        with pytest.raises(ShapeError, match=r"multiples of 32, got \(1, 3, .*letterbox"):
            model(torch.zeros(1, 3, *size))
    with pytest.raises(ShapeError, match="smaller than one patch: expected H and W of 32 or more"):
        model(torch.zeros(1, 3, 16, 64))
    with pytest.raises(ShapeError, match="the image is grey"):
        model(torch.zeros(1, 1, 64, 64))
    with pytest.raises(DtypeError, match="the image holds integers"):
        model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("family", "setting"),
    [
        ("mamba_yolo", {"imgsz": 100}),
        ("mamba_yolo", {"imgsz": [64, 40]}),
        ("mamba_yolo", {"num_classes": 0}),
        ("mamba_yolo", {"reg_max": 1}),
        ("mamba_yolo", {"width": 0}),
        ("fer_yolo_mamba", {"width": 0.0625}),
        ("fer_yolo_mamba", {"width": 0.3}),
        ("fer_yolo_mamba", {"imgsz": 90}),
        ("fer_yolo_mamba", {"num_classes": True}),
    ],
    ids=str,
)
def test_bad_settings_are_refused(family: str, setting: dict[str, Any], make_tiny: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        make_tiny(family, **setting)


def images(batch: int, size: tuple[int, int] = (64, 96)) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_takes_images_without_objects_and_boxes_of_every_size(family: str, make_tiny: Make) -> None:
    """No objects, many on one place, boxes of size zero, outside of the image and around all of it: all is finite."""
    model = make_tiny(family).train()
    none = torch.zeros(0, 5)
    crowd = torch.tensor([[1.0, 0.5, 0.5, 0.4, 0.4]]).repeat(60, 1)
    odd = torch.tensor(
        [[0, 0.5, 0.5, 0, 0], [2, 1.2, 0.5, 0.1, 0.1], [1, 0.5, 0.5, 2, 2], [0, 0, 0, 0.2, 0.3], [2, 0.3, 0.3, 0, 0.5]]
    )
    for targets in ([none, none], [none, crowd], [odd, none], [odd, crowd]):
        model.zero_grad()
        loss = model.loss(model(images(2)), targets)
        assert all(bool(part.isfinite()) for part in loss.values())
        loss["loss"].backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    empty = model.loss(model(images(2)), [none, none])
    assert float(empty["box"].detach()) == 0
    assert float(empty["loss"].detach()) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_wrong_targets_are_named(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    raw = model(images(2))
    with pytest.raises(ShapeError, match="bad targets: expected one tensor for each of 2 images, got 1"):
        model.loss(raw, [torch.zeros(0, 5)])
    with pytest.raises(ShapeError, match=r"bad targets of image 1: expected \(n, 5\).*got \(2, 4\)"):
        model.loss(raw, [torch.zeros(0, 5), torch.zeros(2, 4)])
    for wrong in (3.0, -1.0):
        with pytest.raises(InvalidArgumentError, match="a class of image 0 is out of range: expected 0 to 2"):
            model.loss(raw, [torch.tensor([[wrong, 0.5, 0.5, 0.1, 0.1]]), torch.zeros(0, 5)])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("classes", [1, 1000])
def test_one_class_and_a_thousand(family: str, classes: int, make_tiny: Make) -> None:
    model = make_tiny(family, num_classes=classes).train()
    objects = torch.tensor([[classes - 1, 0.4, 0.5, 0.5, 0.5]])
    model.loss(model(images(1)), [objects])["loss"].backward()
    boxes, scores = model.eval().decode(model(images(1)))
    assert boxes.shape[:2] == scores.shape[:2]
    assert scores.shape[2] == model.classes == classes


@pytest.mark.parametrize("family", FAMILIES)
def test_other_classes_keep_all_other_weights(family: str, make_tiny: Make) -> None:
    model = make_tiny(family)
    for count in (5, 3):
        other = model.with_classes(count)
        assert other.classes == count
        assert mambasdk.models.identity(other).config["num_classes"] == count
        ours, theirs = model.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        changed = [
            name for name in ours if ours[name].shape != theirs[name].shape or not ours[name].equal(theirs[name])
        ]
        assert changed
        assert all(name.startswith(model.ends) for name in changed)
        assert torch.equal(other.decode(other(images(1)))[0], model.decode(model(images(1)))[0])


def test_scans_that_upstreams_optimizer_leaves_out_stay_as_they_are(make_tiny: Make) -> None:
    frozen, free = make_tiny("fer_yolo_mamba", upstream_groups=True), make_tiny("fer_yolo_mamba")
    scans = [module for module in frozen.modules() if isinstance(module, RoutedScan)]
    kept = {id(parameter) for scan in scans for parameter in scan.parameters(recurse=False)}
    assert len(kept) == 5 * len(scans) == 20
    assert all(p.requires_grad == (id(p) not in kept) for p in frozen.parameters())
    assert all(p.requires_grad for p in free.parameters())


def test_training_begins_with_nothing_anywhere_unless_upstreams_draw_is_asked_for() -> None:
    """Few places have an object, and the weights of a sum are drawn by how much it sums."""
    small = {"width": 0.125, "num_classes": 3, "imgsz": 64}
    for upstream, score in ((False, 0.01**2), (True, 0.5**2)):
        model: Any = (
            mambasdk.create_model("fer_yolo_mamba", **small, upstream_init=upstream).eval().requires_grad_(False)
        )
        scores = model.decode(model(images(2)))[1]
        assert score / 3 < float(scores.min()) <= float(scores.max()) < 3 * score
        large = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000]
        deviations = [float(weight.std()) for weight in large]
        expected = [0.02 if upstream else (3 * weight[0].numel()) ** -0.5 for weight in large]
        assert deviations == pytest.approx(expected, rel=0.06)
        ends = model.with_classes(500).head.cls_preds
        assert [float(layer.weight.detach().std()) < 0.025 for layer in ends] == [upstream] * 3
        assert [float(layer.bias.detach().max()) < -4 for layer in ends] == [not upstream] * 3


def test_upstreams_strides_change_the_loss_and_not_the_boxes(make_tiny: Make) -> None:
    true, upstream = make_tiny("fer_yolo_mamba"), make_tiny("fer_yolo_mamba", upstream_strides=True)
    objects = [torch.tensor([[0, 0.5, 0.5, 0.4, 0.5], [1, 0.2, 0.3, 0.2, 0.2]])]
    raw = [map_.detach() for map_ in true(images(1))]
    assert all(torch.equal(a, b) for a, b in zip(raw, upstream(images(1)), strict=True))
    assert torch.equal(true.decode(raw)[0], upstream.decode(raw)[0])
    assert float(true.loss(raw, objects)["loss"]) != float(upstream.loss(raw, objects)["loss"])


def test_channels_are_rounded_up_and_upstreams_mistake_is_a_setting() -> None:
    config = mambasdk.create_model("mamba-yolo-t", device="meta", num_classes=256).config
    assert [config.channels(c) for c in (128, 256, 512, 1024)] == [32, 64, 128, 256]
    config = mambasdk.create_model("mamba-yolo-t", device="meta", num_classes=256, upstream_widths=True).config
    assert [config.channels(c) for c in (128, 256, 512, 1024)] == [32, 256, 128, 256]
    assert mambasdk.create_model("mamba-yolo-l", device="meta").config.channels(1024) == 576


_WRAPPED: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mamba_yolo": ("model.", {"depth": 0.1, "width": 0.03125, "reg_max": 4, "imgsz": 64}, {}),
    "fer_yolo_mamba": ("model.", {"depth": 0.33, "width": 0.125, "input_shape": [64, 64]}, {"phi": "m"}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_files_of_trainers_are_read(family: str, make_tiny: Make, tmp_path: Any) -> None:
    """A checkpoint of several things, a module that holds the model, half precision, 1 x 1 convolutions."""
    model = make_tiny(family)
    prefix, config, wrong = _WRAPPED[family]
    linear = ("in_proj.weight", "out_proj.weight") if family == "mamba_yolo" else ()
    state = {
        prefix + name: (tensor[..., None, None] if tensor.ndim == 2 and name.endswith(linear) else tensor)
        for name, tensor in model.state_dict().items()
    }
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, "model": halves}, tmp_path / "last.pt")
    again: Any = mambasdk.import_checkpoint(family, config, tmp_path / "last.pt")
    assert again.config == model.config
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].half().to(tensor.dtype)), name
    with pytest.raises(CheckpointError, match="unknown arguments: nonsense"):
        mambasdk.import_checkpoint(family, {**config, "nonsense": 1}, state)
    if wrong:
        with pytest.raises(CheckpointError, match="give depth and width in place of phi"):
            mambasdk.import_checkpoint(family, {**config, **wrong}, state)


def test_overlaps_are_those_of_their_formulas() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 2], [0, 0, 4, 2], [2, 0, 6, 2], [10, 10, 12, 16], [1, 1, 1, 1]])
    iou = box_iou(boxes[:1], boxes)
    torch.testing.assert_close(iou, torch.tensor([1.0, 1.0, 1 / 3, 0.0, 0.0]))
    ciou = complete_iou(boxes[:1], boxes[:4])
    far = -(9.0**2 + 12.0**2) / (12.0**2 + 16.0**2)
    aspect = 4 / torch.pi**2 * (torch.tensor(2.0).atan() - torch.tensor(1 / 3).atan()) ** 2
    expected = torch.tensor([1.0, 1.0, 1 / 3 - 4 / 40, far - float(aspect * aspect / (aspect + 1))])
    torch.testing.assert_close(ciou, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_task_aligned_places_are_those_of_the_definition(seed: int) -> None:
    """Place by place and object by object, in plain loops."""
    chance = torch.Generator().manual_seed(seed)
    rows, columns, classes, count = 6, 7, 3, 4
    centres = torch.cartesian_prod(torch.arange(columns), torch.arange(rows)).float() * 8 + 4
    boxes = torch.cat([centres - 12, centres + 12], 1) + 6 * torch.randn(len(centres), 4, generator=chance)
    scores = torch.rand(len(centres), classes, generator=chance)
    low = 30 * torch.rand(count, 2, generator=chance)
    objects = torch.cat([low, low + 8 + 24 * torch.rand(count, 2, generator=chance)], 1)
    kinds = torch.randint(classes, (count,), generator=chance)
    found = assign_by_task(scores, boxes, centres, kinds, objects)
    overlap = torch.zeros(count, len(centres))
    merit = torch.zeros(count, len(centres))
    for g in range(count):
        for a, (x, y) in enumerate(centres.tolist()):
            x1, y1, x2, y2 = objects[g].tolist()
            if x1 < x < x2 and y1 < y < y2:
                overlap[g, a] = max(float(complete_iou(objects[g], boxes[a])), 0)
                merit[g, a] = scores[a, kinds[g]] ** 0.5 * overlap[g, a] ** 6
    wants = [{int(a) for a in merit[g].argsort(descending=True)[:10] if merit[g, a] > 0} for g in range(count)]
    owner: dict[int, int] = {}
    for a in range(len(centres)):
        claims = [g for g in range(count) if a in wants[g]]
        if claims:
            owner[a] = claims[0] if len(claims) == 1 else int(overlap[:, a].argmax())
    positive = merit.amax(dim=0) > 0  # where the best merit is 0 the choice is arbitrary
    assert {a for a in owner if positive[a]} == {int(a) for a in found.found.nonzero() if positive[a]}
    assert all(int(found.objects[a]) == g for a, g in owner.items() if positive[a])
    for g in range(count):
        mine = [a for a, of in owner.items() if of == g]
        if mine:
            best = max(mine, key=lambda a, g=g: float(merit[g, a]))
            most = max(float(overlap[g, a]) for a in mine)
            assert float(found.scores[best, kinds[g]]) == pytest.approx(most, rel=1e-3)
