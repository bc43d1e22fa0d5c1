"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_vision.so"
SUFFIXES = (".png", ".jpg", ".jpeg")  # of images
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_vision.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Labels of images and of their pixels, objects, keypoints of people."""
    return [
        HeadSpec(
            name="image_classification",
            summary="labels of images: training from folders, pictures with probabilities",
            implementation="mambasdk_vision.heads.image_classification:ImageClassificationHead",
        ),
        HeadSpec(
            name="object_detection",
            summary="boxes of objects: training on YOLO, COCO and Pascal VOC labels, pictures with boxes",
            implementation="mambasdk_vision.heads.object_detection:ObjectDetectionHead",
        ),
        HeadSpec(
            name="semantic_segmentation",
            summary="classes of pixels: training from images and masks, masks over pictures",
            implementation="mambasdk_vision.heads.semantic_segmentation:SemanticSegmentationHead",
        ),
        HeadSpec(
            name="pose_estimation",
            summary="keypoints of people by heat maps: training on COCO keypoint files, pictures with skeletons",
            implementation="mambasdk_vision.heads.pose_estimation:PoseEstimationHead",
        ),
        HeadSpec(
            name="bottom_up_pose",
            summary="keypoints of all people of an image at once: training on COCO keypoint files, pictures",
            implementation="mambasdk_vision.heads.bottom_up_pose:BottomUpPoseHead",
        ),
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processors of images, masks and people, and the heads of their tasks."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processor `image` for Python."""
    return [
        ProcessorSpec(
            slot="image",
            kind="image",
            summary="PNG, JPEG or pixels to a normalised tensor",
            factory="mambasdk_vision.processors:ImageProcessor.from_manifest",
            patterns=tuple(f"*{suffix}" for suffix in SUFFIXES),
            frames="mambasdk_vision.video:read_frames",
            frame_patterns=tuple(f"*{suffix}" for suffix in VIDEOS),
        ),
        ProcessorSpec(
            slot="image",
            kind="person_crop",
            summary="PNG, JPEG or pixels, and boxes of people, to normalised crops",
            factory="mambasdk_vision.processors:PersonCrop.from_manifest",
            patterns=tuple(f"*{suffix}" for suffix in SUFFIXES),
        ),
    ]
