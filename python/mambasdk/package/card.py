"""The model card, README.md of a package."""

from __future__ import annotations

from mambasdk.package.manifest import Manifest


def model_card(manifest: Manifest, summary: str, parameters: int) -> str:
    """Markdown: what the model is, its configuration, how to run it from Python, the shell and C++."""
    name = manifest.variant or manifest.family
    rows = "\n".join(f"| {key} | `{value}` |" for key, value in manifest.config.items())
    plugins = " ".join(plugin["name"] for plugin in manifest.requires.get("plugins", []))
    ports = "\n".join(
        f"- {kind} `{port['name']}`: {port['dtype']} ({', '.join(map(str, port['shape']))})"
        for kind, entries in (("input", manifest.inputs), ("output", manifest.outputs))
        for port in entries
    )
    predict = "mambasdk predict PACKAGE FILE\n" if manifest.head and "text" not in manifest.processors else ""
    without_python = ""
    if manifest.engine["name"] != "torch":
        without_python = f"\nWithout Python:\n\n{_without_python(manifest)}\n\nInputs and outputs:\n\n{ports}\n"
    return f"""# {name}
{summary}. {parameters:,} parameters. A model package of family `{manifest.family}`, head `{manifest.head}`.

```
pip install mambasdk {plugins}
mambasdk verify PACKAGE
{predict}```

```python
import mambasdk
model = mambasdk.load("PACKAGE")
```
{without_python}
## Configuration
| field | value |
|---|---|
{rows}
"""


def _without_python(manifest: Manifest) -> str:
    if manifest.engine["name"] == "native":
        if "text" in manifest.processors:
            return "```\nmambasdk-run PACKAGE --prompt '…'\n```"
        return 'The native engine runs it from C and C++; see "Pipelines" in the guide to embedding.'
    target = manifest.engine["target"]
    return (
        f"Machine code for {target['system']} on {target['machine']} ({target['isa']}), to run with libtorch "
        f'{".".join(manifest.engine["torch"].split(".")[:2])}; see "Engines" in the guide to embedding.'
    )
