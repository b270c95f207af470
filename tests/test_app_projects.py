"""The apps in examples/: what can be known without Android's and Apple's tools.

Every file parses, every name that one file takes from another is there, and they read of manifest.json and golden.json
what `deploy` writes.
"""

import json
import plistlib
import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_kotlin
import tree_sitter_swift
import yaml
from tree_sitter import Language, Node, Parser

from pipeline.files import layout
from tests.conftest import PROJECT
from tests.test_deploy import golden
from tests.test_multihead import deploy_several

ANDROID, IOS, CAMERA = (PROJECT / "examples" / name for name in ("android", "ios", "camera"))
SOURCES = sorted(path for path in (*ANDROID.rglob("*"), *IOS.rglob("*")) if path.suffix in {".kt", ".kts", ".swift"})
LANGUAGES = {
    ".kt": tree_sitter_kotlin.language,
    ".kts": tree_sitter_kotlin.language,
    ".swift": tree_sitter_swift.language,
}
ANDROID_NAME = "{http://schemas.android.com/apk/res/android}name"
KOTLIN = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.suffix == ".kt")
GRADLE = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.suffix == ".kts")
SWIFT = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.suffix == ".swift")


def faults(content: bytes, suffix: str) -> list[str]:
    """Return where a source is none of its language."""

    def walk(node: Node) -> Iterator[Node]:
        yield node
        for child in node.children:
            yield from walk(child)

    tree = Parser(Language(LANGUAGES[suffix]())).parse(content)
    return [f"line {node.start_point[0] + 1}" for node in walk(tree.root_node) if node.is_error or node.is_missing]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_parse(path: Path) -> None:
    content = path.read_bytes()
    assert faults(content, path.suffix) == []
    assert faults(content.replace(b"}", b"", 1).replace(b")", b"", 1), path.suffix)  # it would be noticed


@pytest.mark.parametrize("path", sorted(ANDROID.rglob("*.xml")), ids=lambda path: path.name)
def test_what_resources_name_is_there(path: Path) -> None:
    ET.parse(path)
    for kind, name in re.findall(r"@(string|style|layout)/(\w+)", path.read_text(encoding="utf-8")):
        assert name in resources(kind)


def resources(kind: str) -> set[str]:
    values = [ET.parse(path).getroot() for path in ANDROID.rglob("values/*.xml")]
    layouts = {path.stem for path in ANDROID.rglob("layout/*.xml")}
    return layouts if kind == "layout" else {str(one.get("name")) for root in values for one in root.iter(kind)}


def test_what_kotlin_names_is_there() -> None:
    ids = {name for path in ANDROID.rglob("layout/*.xml") for name in re.findall(r"@\+id/(\w+)", path.read_text())}
    used = re.findall(r"R\.(string|id|layout)\.(\w+)", KOTLIN)
    assert {kind for kind, _ in used} == {"string", "id", "layout"}
    for kind, name in used:
        assert name in (ids if kind == "id" else resources(kind))
    (activity,) = ET.parse(ANDROID / "app/src/main/AndroidManifest.xml").getroot().iter("activity")
    assert f"class {str(activity.get(ANDROID_NAME)).removeprefix('.')} : " in KOTLIN


def test_an_app_without_the_permission_cannot_send_pictures() -> None:
    asked = ET.parse(ANDROID / "app/src/main/AndroidManifest.xml").getroot().iter("uses-permission")
    assert [one.get(ANDROID_NAME) for one in asked] == ["android.permission.CAMERA"]


def test_every_library_of_gradle_has_a_version() -> None:
    catalog = tomllib.loads((ANDROID / "gradle/libs.versions.toml").read_text(encoding="utf-8"))
    entries = [*catalog["libraries"].items(), *((f"plugins-{name}", one) for name, one in catalog["plugins"].items())]
    assert {one["version"]["ref"] for _, one in entries} == set(catalog["versions"])
    assert {name.replace("-", ".") for name, _ in entries} == set(re.findall(r"\blibs\.([\w.]+)\b", GRADLE))


@pytest.mark.parametrize("path", [*ANDROID.rglob("*.kt"), *CAMERA.rglob("*.java")], ids=lambda path: path.name)
def test_a_source_stands_in_the_folder_of_its_package(path: Path) -> None:
    (package,) = re.findall(r"^package ([\w.]+);?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert path.parent.as_posix().endswith(f"/{package.replace('.', '/')}")
    assert f'namespace = "{package}"' in GRADLE


def test_kotlin_makes_the_input_as_java_wants_it() -> None:
    java = (CAMERA / "java/viewfinder/camera/CameraInput.java").read_text(encoding="utf-8")
    (parameters,) = re.findall(r"public CameraInput\((.*?)\)", java, re.DOTALL)
    calls = re.findall(r"CameraInput\(((?:[^()]|\(\))*)\)", KOTLIN)
    assert len(calls) == 2
    for call in calls:
        assert len([one for one in call.split(",") if one.strip()]) == len(parameters.split(","))


def test_swift_makes_the_input_as_c_wants_it() -> None:
    header = (CAMERA / "camera_input.h").read_text(encoding="utf-8")
    (struct,) = re.findall(r"typedef struct \{(.*?)\} camera_frame;", header, re.DOTALL)
    fields = re.findall(r"\*?(\w+)[,;]", re.sub(r"//.*", "", struct))
    calls = re.findall(r"camera_frame\(\s*y: (.*?rotation: rotation)", SWIFT, re.DOTALL)
    assert len(calls) == 2
    for call in calls:
        assert re.findall(r"\b(\w+): ", f"y: {call}") == fields
    assert '#include "camera_input.h"' in (IOS / "Sources/Bridging.h").read_text()


def test_the_ios_project_names_what_is_there() -> None:
    project = yaml.safe_load((IOS / "project.yml").read_text(encoding="utf-8"))
    for target in project["targets"].values():
        for source in target["sources"]:
            path = IOS / (source if isinstance(source, str) else source["path"])
            assert path.exists() or layout.DEPLOYED.as_posix() in path.as_posix()
            assert all((path / name).is_file() for name in (source.get("includes", []) if path == CAMERA else []))
    app = project["targets"]["ViewfinderCamera"]
    assert (IOS / app["settings"]["SWIFT_OBJC_BRIDGING_HEADER"]).is_file()
    info = plistlib.loads((IOS / app["info"]["path"]).read_bytes())
    assert {name: info[name] for name in app["info"]["properties"]} == app["info"]["properties"]
    podfile = (IOS / "Podfile").read_text(encoding="utf-8")
    assert set(re.findall(r"target '(\w+)'", podfile)) == set(project["targets"])
    (platform,) = re.findall(r"platform :ios, '([\d.]+)'", podfile)
    assert platform == project["options"]["deploymentTarget"]["iOS"]


def test_both_read_what_deploy_writes(folder: Path) -> None:
    """Every name in quotes that Kotlin asks JSON for, and every field that Swift decodes."""
    deploy_several()
    manifest = json.loads((layout.DEPLOYED / "manifest.json").read_text())
    written = set(keys(manifest)) | set(keys(golden()))
    asked = re.findall(r"(?:get|opt)(?:JSONObject|JSONArray|String|Int|Double)\(\"(\w+)\"", KOTLIN)
    assert {"threshold", "resize", "camera", "max_factor", "probabilities", "heads", "kind"} <= set(asked)
    assert set(asked) <= written
    decodable = re.findall(r"^( *)(?:private )?struct \w+: Decodable \{(.*?)^\1\}", SWIFT, re.DOTALL | re.MULTILINE)
    decoded = re.findall(r"let (\w+): ", "\n".join(fields for _, fields in decodable))
    assert {"threshold", "resize", "camera", "max_factor", "probabilities", "heads", "kind"} <= set(decoded)
    assert set(decoded) <= written
    shipped = {path.name for path in layout.DEPLOYED.iterdir()}
    assert {"model.tflite", "manifest.json", "labels.txt", "golden"} <= shipped
    assert set(re.findall(r'"(\w+\.(?:tflite|txt|json))"', GRADLE + KOTLIN)) <= shipped


def keys(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        yield from content
        content = list(content.values())
    if isinstance(content, list):
        for one in content:
            yield from keys(one)


def test_pages_show_where_the_apps_are() -> None:
    for page, folder in (("android", ANDROID), ("ios", IOS)):
        text = (PROJECT / f"docs/pages/app/{page}.md").read_text(encoding="utf-8")
        assert f"examples/{folder.name}/" in text
        assert "not built" in text
