"""The rules of the house that no other tool checks, each tried on a bad sample.

Owns: line limits, stray markers, reasons beside escapes from the type checker, a test
file for every module, exports, argument counts, docstrings, links to protocol pages.
Refuses to know: what the linter, the import contracts and the type checker see already.

A checker takes text and returns findings as ``path:line what`` lines. The same checker
that reads the tree is run on a small sample which breaks its rule, so a checker that
has gone blind fails too.
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent

FUNCTION_LINES = 60
MODULE_LINES = 600
ARGUMENTS = 6

# Names that say nothing about what a module holds.
EMPTY_NAMES = frozenset({"utils", "util", "common", "helpers", "manager", "base"})

# Modules without a test file of their own, each with the reason.
WITHOUT_TEST_FILE = {
    "opnode/__main__.py": "two lines into the command line",
    "opnode/version.py": "one constant",
}

# Written in halves: otherwise this file would be the first finding.
MARKERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
UNWRITTEN = "NotImplemented" + "Error"
ESCAPED_TYPE = re.compile(r"\b(Any|cast)\b")
SWITCHES = re.compile(r"\b(skip|xfail)\b")
INDENTED_IMPORT = re.compile(r"^[ \t]+(import|from)\b|[:;][ \t]*(import|from)\b", re.M)
ESCAPE = re.compile(
    r"#\s*(type:\s*ig" + r"nore|noqa)(\[[^\]]*\]|:\s*[A-Z]+\d+[A-Z0-9, ]*)?(.*)"
)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DocumentedNode = ast.Module | ast.ClassDef | FunctionNode


class Source(NamedTuple):
    """One Python file: where it is (relative to the repository) and what it says."""

    path: str
    text: str

    def tree(self) -> ast.Module:
        """The syntax tree; shared, so no checker may change it."""
        return parsed(self)


@functools.cache
def parsed(source: Source) -> ast.Module:
    """Parse a file once for all checkers."""
    return ast.parse(source.text, filename=source.path)


@functools.cache
def nodes(source: Source) -> tuple[ast.AST, ...]:
    """Every node of a file, in the order of ``ast.walk``."""
    return tuple(ast.walk(source.tree()))


def sources(*folders: str) -> list[Source]:
    """Every Python file below the folders, in a stable order."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(found)
    ]


def functions(source: Source) -> Iterator[FunctionNode]:
    """Every function and method, nested ones too."""
    for node in nodes(source):
        if isinstance(node, FunctionNode):
            yield node


# --- Checkers ---


def docstring_lines(function: FunctionNode) -> int:
    """How many lines the docstring takes; it does not count towards the limit."""
    if ast.get_docstring(function) is None:
        return 0
    first = function.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def long_functions(source: Source) -> Iterator[str]:
    """Functions of more than sixty lines without their docstring."""
    for function in functions(source):
        end = function.end_lineno or function.lineno
        length = end - function.lineno + 1 - docstring_lines(function)
        if length > FUNCTION_LINES:
            yield (
                f"{source.path}:{function.lineno} {function.name} has {length} lines, "
                f"the limit is {FUNCTION_LINES}"
            )


def long_modules(source: Source) -> Iterator[str]:
    """Modules of more than six hundred lines."""
    length = len(source.text.splitlines())
    if length > MODULE_LINES:
        yield f"{source.path}:1 has {length} lines, the limit is {MODULE_LINES}"


def many_arguments(source: Source) -> Iterator[str]:
    """Functions that take more than six arguments; the instance does not count.

    A constructor that is handed its collaborators, and a command that is handed its
    options by click, may take more when their line says so to the linter, with the
    reason that `blanket_escapes` asks for.
    """
    lines = source.text.splitlines()
    for function in functions(source):
        decorators = [ast.unparse(one) for one in function.decorator_list]
        is_command = any(re.search(r"\bcommand\(", one) for one in decorators)
        may_take_more = function.name == "__init__" or is_command
        if may_take_more and "PLR0913" in lines[function.lineno - 1]:
            continue
        given = function.args
        names = [
            one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)
        ]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > ARGUMENTS:
            yield (
                f"{source.path}:{function.lineno} {function.name} takes {count} "
                f"arguments, the limit is {ARGUMENTS}"
            )


def stray_markers(source: Source) -> Iterator[str]:
    """Notes to oneself, unwritten parts, and tests switched off without a reason."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if MARKERS.search(line):
            yield f"{source.path}:{number} stray marker: {line.strip()}"
    # Most files hold none of the words, and need no look at their syntax.
    if UNWRITTEN in source.text:
        yield from unwritten_parts(source)
    if SWITCHES.search(source.text):
        yield from silent_switches(source)


def unwritten_parts(source: Source) -> Iterator[str]:
    """Places that only say that code is missing."""
    for node in nodes(source):
        if isinstance(node, ast.Raise) and UNWRITTEN in ast.unparse(node):
            yield f"{source.path}:{node.lineno} stands for code that is not written"


def silent_switches(source: Source) -> Iterator[str]:
    """Tests switched off without a reason."""
    called = {
        id(node.func): node for node in nodes(source) if isinstance(node, ast.Call)
    }
    for node in nodes(source):
        if is_switch(node) and not has_reason(called.get(id(node))):
            yield f"{source.path}:{node.lineno} switches a test off without a reason"


def is_switch(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Whether the node names pytest's skip or xfail, as a function or as a mark."""
    if not isinstance(node, ast.Attribute) or node.attr not in {"skip", "xfail"}:
        return False
    return ast.unparse(node.value) in {"pytest", "pytest.mark"}


def has_reason(call: ast.Call | None) -> bool:
    """Whether a call carries a text that says why."""
    if call is None:
        return False
    texts = [*call.args, *(one.value for one in call.keywords if one.arg == "reason")]
    return any(not isinstance(text, ast.Constant) or bool(text.value) for text in texts)


@functools.cache
def comments(source: Source) -> tuple[tuple[int, str], ...]:
    """Every comment with its line number; text inside strings is no comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source.text).readline)
    return tuple(
        (token.start[0], token.string)
        for token in tokens
        if token.type == tokenize.COMMENT
    )


def lines_below_comments(source: Source) -> set[int]:
    """Lines right below a line that is nothing but a comment."""
    lines = source.text.splitlines()
    return {
        number + 1
        for number, _ in comments(source)
        if lines[number - 1].lstrip().startswith("#")
    }


def blanket_escapes(source: Source) -> Iterator[str]:
    """Escapes from the checkers that name no rule or give no reason.

    The reason stands behind the escape or fills the line above it.
    """
    if not ESCAPE.search(source.text):
        return
    explained = lines_below_comments(source)
    for number, comment in comments(source):
        found = ESCAPE.search(comment)
        if found is None:
            continue
        if not found.group(2):
            yield f"{source.path}:{number} names no rule: {comment}"
            continue
        around = comment[: found.start()] + found.group(3)
        if number not in explained and not re.search(r"[A-Za-z]{3}", around):
            yield f"{source.path}:{number} gives no reason: {comment}"


def unexplained_casts(source: Source) -> Iterator[str]:
    """Uses of ``Any`` and ``cast`` without a comment beside or above that says why."""
    if not ESCAPED_TYPE.search(source.text):
        return
    beside = {number for number, _ in comments(source)}
    explained = beside | lines_below_comments(source)
    for node in nodes(source):
        if not isinstance(node, ast.Name) or node.id not in {"Any", "cast"}:
            continue
        if node.lineno not in explained:
            yield f"{source.path}:{node.lineno} {node.id} without a reason beside it"


def hidden_imports(source: Source) -> Iterator[str]:
    """Imports inside functions."""
    if not INDENTED_IMPORT.search(source.text):
        return
    for function in functions(source):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield f"{source.path}:{node.lineno} import inside {function.name}"


def misplaced_exports(source: Source) -> Iterator[str]:
    """``__all__`` in a plain module; only packages state what they export."""
    if source.path.endswith("__init__.py"):
        return
    for node in source.tree().body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(
                isinstance(one, ast.Name) and one.id == "__all__" for one in targets
            ):
                yield f"{source.path}:{node.lineno} __all__ outside a package"


def is_exempt(function: FunctionNode) -> bool:
    """Whether a decorator says that the docstring stands elsewhere."""
    names = {ast.unparse(one).rpartition(".")[2] for one in function.decorator_list}
    return bool(names & {"overload", "override", "setter"})


def missing_docstrings(source: Source) -> Iterator[str]:
    """Public modules, classes, functions and methods without a docstring."""
    tree = source.tree()
    if ast.get_docstring(tree) is None:
        yield f"{source.path}:1 the module has no docstring"
    yield from undocumented(source, tree)


def undocumented(source: Source, scope: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Public names of one scope without a docstring; classes are entered."""
    for node in scope.body:
        if not isinstance(node, ast.ClassDef | FunctionNode) or node.name.startswith(
            "_"
        ):
            continue
        exempt = isinstance(node, FunctionNode) and is_exempt(node)
        if ast.get_docstring(node) is None and not exempt:
            yield f"{source.path}:{node.lineno} {node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(source, node)


def empty_names(source: Source) -> Iterator[str]:
    """Modules and packages whose name says nothing."""
    parts = source.path.removesuffix(".py").split("/")
    for part in parts:
        if part.strip("_") in EMPTY_NAMES:
            yield f"{source.path}:1 {part} says nothing about what it holds"


def modules_without_tests(
    modules: Iterable[str], tests: Iterable[str]
) -> Iterator[str]:
    """Modules ``opnode/a/b.py`` without a ``tests/unit/a/test_b.py``."""
    present = set(tests)
    for module in modules:
        path = Path(module)
        if path.name == "__init__.py" or module in WITHOUT_TEST_FILE:
            continue
        wanted = Path("tests/unit", *path.parts[1:-1], f"test_{path.name}").as_posix()
        if wanted not in present:
            yield f"{module}:1 has no {wanted}"


def unlinked_pages(pages: Iterable[str], texts: Iterable[str]) -> Iterator[str]:
    """Protocol pages that no given text links to by their file name."""
    linked = "\n".join(texts)
    for page in pages:
        if f"protocols/{page})" not in linked and f"protocols/{page}#" not in linked:
            yield f"docs/protocols/{page} has no link in README or architecture"


# --- The tree ---

PRODUCT = sources("opnode", "simulations")
EVERYTHING = sources("opnode", "simulations", "benchmarks", "examples", "tests")


def findings(checker: object, given: Iterable[Source]) -> str:
    """All findings of one checker as one text; empty when the rule holds."""
    assert callable(checker)
    return "\n".join(line for source in given for line in checker(source))


@pytest.mark.parametrize(
    "checker",
    [
        long_functions,
        long_modules,
        many_arguments,
        unexplained_casts,
        misplaced_exports,
        missing_docstrings,
        empty_names,
    ],
)
def test_product_code_keeps_the_rule(checker: object) -> None:
    assert findings(checker, PRODUCT) == ""


@pytest.mark.parametrize("checker", [stray_markers, blanket_escapes, hidden_imports])
def test_every_python_file_keeps_the_rule(checker: object) -> None:
    assert findings(checker, EVERYTHING) == ""


def test_every_module_has_its_test_file() -> None:
    modules = [source.path for source in PRODUCT if source.path.startswith("opnode/")]
    tests = [source.path for source in EVERYTHING if source.path.startswith("tests/")]
    assert "\n".join(modules_without_tests(modules, tests)) == ""


def test_every_exception_to_the_test_file_rule_still_names_a_module() -> None:
    assert [path for path in WITHOUT_TEST_FILE if not (ROOT / path).is_file()] == []


def packages() -> list[str]:
    """Dotted names of the packages that state exports."""
    return [
        Path(source.path).parent.as_posix().replace("/", ".")
        for source in PRODUCT
        if source.path.endswith("__init__.py") and "__all__" in source.text
    ]


@pytest.mark.parametrize("name", packages())
def test_every_export_of_a_package_resolves_once(name: str) -> None:
    package = importlib.import_module(name)
    exported = list(package.__all__)
    assert [one for one in exported if not hasattr(package, one)] == []
    assert len(exported) == len(set(exported))


def test_every_protocol_page_is_linked() -> None:
    pages = [page.name for page in sorted((ROOT / "docs/protocols").glob("*.md"))]
    texts = [
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("README.md", "docs/architecture.md")
    ]
    assert pages, "docs/protocols holds no page"
    assert "\n".join(unlinked_pages(pages, texts)) == ""


def test_every_local_link_in_the_documents_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


# --- The checkers themselves, each on a sample that breaks its rule ---


def sample(text: str, path: str = "opnode/core/sample.py") -> Source:
    """A file that exists only here."""
    return Source(path, text)


BODY = "    x = 1\n"
IGNORE = "# type: ig" + "nore"

SEVEN = "def __init__(self, a, b, c, d, e, f, g): ...\n"
SEVEN_WITH_REASON = SEVEN.replace("\n", "  # no" + "qa: PLR0913 - seven meet\n")

BAD_SAMPLES = [
    (long_functions, "def f():\n" + BODY * 60),
    (long_functions, "class C:\n  async def f(self):\n" + BODY * 60),
    (long_functions, 'def f():\n    """Doc.\n\n    More.\n    """\n' + BODY * 60),
    (long_modules, "x = 1\n" * 601),
    (many_arguments, "def f(a, b, c, d, e, f, g): ...\n"),
    (many_arguments, "class C:\n  def f(self, a, b, c, *, d, e, f, g): ...\n"),
    (many_arguments, SEVEN),
    (many_arguments, "def f(a, b, c, d, e, f, g): ...  # no" + "qa: PLR0913 - why\n"),
    (stray_markers, "x = 1  # " + "TO" + "DO: later\n"),
    (stray_markers, "raise " + UNWRITTEN + "\n"),
    (stray_markers, "pytest." + "skip()\n"),
    (stray_markers, "pytest.mark." + 'skip(reason="")\n'),
    (stray_markers, "pytest.mark." + "xfail\n"),
    (stray_markers, "@pytest.mark." + "skip\ndef test_x(): ...\n"),
    (blanket_escapes, "x = f()  " + IGNORE + "\n"),
    (blanket_escapes, "x = f()  " + IGNORE + "[arg-type]\n"),
    (blanket_escapes, "x = f()  # no" + "qa\n"),
    (blanket_escapes, "x = f()  # no" + "qa: E501\n"),
    (unexplained_casts, "x: Any = 1\n"),
    (unexplained_casts, "x = cast(int, y)\n"),
    (hidden_imports, "def f():\n    import trio\n"),
    (misplaced_exports, '__all__ = ["x"]\n'),
    (missing_docstrings, "x = 1\n"),
    (missing_docstrings, '"""Doc."""\ndef f(): ...\n'),
    (
        missing_docstrings,
        '"""Doc."""\nclass C:\n    """Doc."""\n    def f(self): ...\n',
    ),
]

GOOD_SAMPLES = [
    (long_functions, 'def f():\n    """Doc.\n\n    More.\n    """\n' + BODY * 59),
    (long_modules, "x = 1\n" * 600),
    (many_arguments, "class C:\n  def f(self, a, b, c, *, d, e, f): ...\n"),
    (many_arguments, SEVEN_WITH_REASON),
    (
        many_arguments,
        "@click.command()\n" + SEVEN_WITH_REASON.replace("__init__", "up"),
    ),
    (stray_markers, "pytest." + 'skip("this kernel has no GSO")\n'),
    (stray_markers, "pytest.mark." + 'skip(reason="this kernel has no GSO")\n'),
    (blanket_escapes, "x = f()  " + IGNORE + "[arg-type]  # the stub is wrong\n"),
    (blanket_escapes, "x = f()  # no" + "qa: S603: our own program\n"),
    (stray_markers, "with pytest.raises(" + UNWRITTEN + "): ...\n"),
    (blanket_escapes, "# It is ours.\nx = f()  # no" + "qa: S603\n"),
    (unexplained_casts, "x: Any = 1  # decoded JSON has no type\n"),
    (misplaced_exports, "exports = []\n"),
    (
        missing_docstrings,
        '"""Doc."""\ndef _f(): ...\nclass _C:\n    def f(self): ...\n',
    ),
]


@pytest.mark.parametrize(("checker", "text"), BAD_SAMPLES)
def test_checker_finds_the_violation(checker: object, text: str) -> None:
    assert findings(checker, [sample(text)]) != ""


@pytest.mark.parametrize(("checker", "text"), GOOD_SAMPLES)
def test_checker_accepts_what_the_rule_allows(checker: object, text: str) -> None:
    assert findings(checker, [sample(text)]) == ""


def test_a_module_called_helpers_is_found() -> None:
    assert findings(empty_names, [sample("", "opnode/core/helpers.py")]) != ""


def test_a_module_without_a_test_file_is_found() -> None:
    modules = ["opnode/core/ids.py", "opnode/core/__init__.py", "opnode/version.py"]
    assert list(modules_without_tests(modules, ["tests/unit/test_ids.py"])) == [
        "opnode/core/ids.py:1 has no tests/unit/core/test_ids.py"
    ]
    assert not list(modules_without_tests(modules, ["tests/unit/core/test_ids.py"]))


def test_a_protocol_page_that_nobody_links_is_found() -> None:
    assert list(unlinked_pages(["rpc.md"], ["see docs/protocols/noise.md"])) != []
    assert list(unlinked_pages(["rpc.md"], ["[RPC](protocols/rpc.md)"])) == []
