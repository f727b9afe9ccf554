"""``esmgn data``: build, inspect and split stores of proteins."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esmgn_cli.render import block, echo, table
from esmgn_core.errors import DataError, SettingsError, check_choice
from esmgn_core.printable import counted, printable

if TYPE_CHECKING:
    from esmgn_core.store import Layout

_SHOWN_LEAKS = 20

SharedKmers = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Chains are related if they share this part of the smaller one's 5-mers; 0: off."
    ),
]
Identity = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Compare with MMseqs2 at this sequence identity.", show_default=False),
]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.", show_default=False)]
OutStore = Annotated[
    Path, typer.Option("--out", "-o", metavar="STORE", help="Folder of the store.", show_default=False)
]


def build(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Structure files, folders, globs, tar and zip archives, ATOM3D folders, Foldcomp databases, "
            "trajectories. Leave out to continue an interrupted build.",
            show_default=False,
        ),
    ] = None,
    *,
    out: OutStore,
    atoms: Annotated[
        str | None, typer.Option(help="backbone (N, CA, C, O), the default, or ca.", show_default=False)
    ] = None,
    coordinates: Annotated[
        str | None,
        typer.Option(help="fixed (16 bits, 0.001 angstrom), the default, or float32.", show_default=False),
    ] = None,
    secondary_structure: Annotated[
        bool, typer.Option("--secondary-structure", help="Store the DSSP state of each residue (mdtraj).")
    ] = False,
    exposure: Annotated[
        bool,
        typer.Option("--exposure", help="Store the solvent-accessible surface of each residue (mdtraj)."),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of processes. Default: one per processor.", show_default=False),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add proteins to a finished store.")] = False,
    share: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Process share I of N, for job arrays.",
            show_default=False,
        ),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="processes (this machine) or ray (many machines).")
    ] = "processes",
    topology: Annotated[
        Path | None,
        typer.Option(help="Structure file with the atoms of the trajectories.", show_default=False),
    ] = None,
    chains: Annotated[
        Path | None,
        typer.Option(help="File that lists the chains to store, such as 1ABC-A.", show_default=False),
    ] = None,
    min_length: Annotated[int, typer.Option(help="Refuse proteins with fewer residues.")] = 1,
    max_length: Annotated[int, typer.Option(help="Refuse proteins with more residues; 0: no limit.")] = 0,
    min_plddt: Annotated[float, typer.Option(help="Refuse models with a lower mean pLDDT.")] = 0.0,
    max_resolution: Annotated[
        float, typer.Option(help="Refuse coarser resolution, in angstrom; 0: no limit.")
    ] = 0.0,
    max_chains: Annotated[int, typer.Option(help="Refuse proteins with more chains; 0: no limit.")] = 0,
) -> None:
    """Build a store from structures.

    Every file is either stored or refused with a reason. The build can be interrupted at any time. Run the
    same command again to continue; the store is the same.
    """
    from esmgn_cli.data_progress import BuildDisplay
    from esmgn_core.formats import structure_formats
    from esmgn_core.io.folders import passed_over_text
    from esmgn_core.store import BuildOptions
    from esmgn_core.store import build as build_store
    from esmgn_core.store.build import default_workers
    from esmgn_core.store.chains import read_chains
    from esmgn_core.store.executors import named_executor
    from esmgn_core.store.filters import Filters

    options = BuildOptions(
        layout=_layout(atoms, coordinates, secondary_structure=secondary_structure, exposure=exposure),
        filters=Filters(min_length, max_length, min_plddt, max_resolution, max_chains),
        topology=topology,
        chains=None if chains is None else read_chains(chains),
        append=append,
        formats=structure_formats(),
        workers=default_workers() if workers is None else workers,
        share=_share(share),
    )
    place = shlex.quote(str(out))
    chosen = named_executor(executor, options.workers)
    try:
        with BuildDisplay() as display:
            report = build_store(source or [], out, options, progress=display, executor=chosen)
    except KeyboardInterrupt:
        echo(f"stopped; continue: esmgn data build -o {place}", err=True)
        raise typer.Exit(130) from None
    if report.missing:
        left = f"{counted(report.missing, 'part')} left to other jobs"
        echo(f"{left}; when all are done: esmgn data build -o {place}")
        return
    if not report.planned:
        echo(f"nothing new: {out} has all files")
    num_proteins = _summary(out)
    if report.passed_over:
        echo(passed_over_text(report.passed_over))
    if not num_proteins:
        raise typer.Exit(1)
    echo("", f"train on it: esmgn run --data {place}", f"inspect it: esmgn data report {place}")


def info(store: StorePath) -> None:
    """Summarise a store."""
    _summary(store)


def list_proteins(
    store: StorePath,
    *,
    refused: Annotated[bool, typer.Option("--refused", help="List refused files, with reasons.")] = False,
    limit: Annotated[int, typer.Option(help="Lines to print; 0 for all.")] = 20,
) -> None:
    """List the proteins of a store, or the refused files."""
    from esmgn_core.store import Store
    from esmgn_core.store.index import row_account

    names = ["name", "source", "member", "reason"] if refused else ["name", "length", "chains", "mean_plddt"]
    names += [] if refused else ["resolution", "method", "account"]
    rows = Store(store).index(names, refused=refused)
    shown = rows.slice(0, limit or None)
    echo("\t".join(name if name != "account" else "notes" for name in names))
    for row in shown.to_pylist():
        if not refused:
            row["account"] = "; ".join(row_account(row["account"]).get("notes", ())) or None
        echo("\t".join(printable(_cell(row[name])) for name in names))
    if len(shown) < len(rows):
        echo(f"... and {len(rows) - len(shown)} more; list all: --limit 0")


def show(
    store: StorePath,
    name: Annotated[str, typer.Argument(help="Name of a protein.", show_default=False)],
) -> None:
    """Show one protein of a store.

    Prints its source, its sequence, and how the content of its file was used.
    """
    import json

    from esmgn_core.io.annotate import areas, states
    from esmgn_core.store import Store
    from esmgn_core.store.index import row_account

    opened = Store(store)
    row = opened.find(name)
    values = opened.index().slice(row, 1).to_pylist()[0]
    values["sha256"] = values["sha256"].hex() if values["sha256"] else None
    account = row_account(values.pop("account"))
    lines = [(key, _cell(value)) for key, value in values.items() if value not in (None, "")]
    lines += [(f"chain {chain.pop('name')}", json.dumps(chain)) for chain in account.pop("chains")]
    lines += [("note", note) for note in account.pop("notes", ())]
    lines += [(key, json.dumps(value)) for key, value in account.items()]
    block(table(lines, indent=""))
    echo(opened[row].sequence)
    if (column := opened.column("secondary_structure", row)) is not None:
        echo(states(column))
    if (column := opened.column("exposure", row)) is not None:
        echo(" ".join(f"{area:.0f}" for area in areas(column).tolist()))


def verify(store: StorePath) -> None:
    """Verify the checksums of a store, and that no file is missing."""
    from esmgn_core.store import Store
    from esmgn_core.store.index import FROM_COPY
    from esmgn_core.store.reader import store_problems
    from esmgn_core.store.settings import read_manifest

    if problems := store_problems(store):
        raise DataError(f"{store} is damaged", *problems, FROM_COPY)
    opened = Store(store)
    recorded = read_manifest(store).contents is not None
    checked = "every byte" if recorded else "every byte outside the index"
    echo(f"{counted(len(opened), 'protein')}, {checked} as it was written")
    if opened.is_finished and not recorded:
        echo("not checked: the index, and the number of shards (esmgn 0.1.0 recorded neither)")
        echo(f"record them in a copy: esmgn data merge {shlex.quote(str(store))} -o COPY")
    if not opened.is_finished:
        echo(f"the build is not finished; go on: esmgn data build -o {shlex.quote(str(store))}")


def report(
    store: StorePath,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML page. Default: STORE/report.html.", show_default=False),
    ] = None,
) -> None:
    """Summarise a build, and write an HTML page with charts."""
    from esmgn_core.machine.files import write_atomically
    from esmgn_core.pages.store import store_page
    from esmgn_core.store import Store
    from esmgn_core.store.report import annotation_totals, notes, reasons, totals

    opened = Store(store)
    page = store / "report.html" if out is None else out
    lines = [*totals(opened), *annotation_totals(opened)]
    block(table([(label, f"{number:,}") for label, number in lines], indent=""))
    for reason, number in reasons(opened):
        echo(f"refused {number:,}: {reason}")
    for note in notes(opened):
        echo(f"note: {note}")
    write_atomically(page, store_page(opened))
    echo(f"page: {page}")


def split(
    store: StorePath,
    *,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Split file to write. With --check: to read.", show_default=False),
    ],
    valid: Annotated[float, typer.Option(min=0, max=1, help="Share of the validation set.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the test set.")] = 0.0,
    clusters: Annotated[
        Path | None, typer.Option(help="Clusters of MMseqs2 or Foldseek (TSV).", show_default=False)
    ] = None,
    identity: Identity = None,
    shared_kmers: SharedKmers = 0.5,
    check: Annotated[bool, typer.Option("--check", help="Only check the file for leaks.")] = False,
) -> None:
    """Split the proteins of a store; related ones stay together.

    Proteins are related if they have the same sequence, are fragments of one AlphaFold accession, or have
    chains with common 5-mers. With --clusters or --identity, the members of a cluster are related too.
    """
    from collections import Counter

    from esmgn_core.related import checked
    from esmgn_core.splits import Shares
    from esmgn_core.store import Store
    from esmgn_core.store import splits as by

    opened, shares = Store(store), Shares(valid, test)
    splits = by.read_splits(out) if check else {}
    pairs, comparisons = [], []
    if clusters is not None:
        names = [name for name in opened.names if name in splits] if check else opened.names
        pairs += by.read_clusters(clusters, names)
        comparisons.append(f"clusters of {clusters}")
    if identity is not None:
        pairs += by.clusters_by_identity(opened, identity)
        comparisons.append(f"clusters of MMseqs2 at {100 * identity:g} % identity")
    groups = by.related_rows(opened, shared=shared_kmers, clusters=pairs)
    if not check:
        splits = by.split_store(opened, groups, shares)
        by.write_splits(out, splits)
    sizes = dict.fromkeys(() if check else ["train", *["valid"] * (valid > 0), *["test"] * (test > 0)], 0)
    for name, size in sorted((sizes | Counter(splits.values())).items()):
        echo(f"{printable(name)}\t{size}")
    number, largest = by.group_sizes(groups)
    echo(f"groups of related proteins: {number:,}, the largest of {largest:,}")
    for line in checked(shared_kmers, *comparisons):
        echo(line)
    for line in by.unmatched(opened, splits):
        echo(f"warning: {line}", err=True)
    if leaks := by.leaks(opened, splits, groups):
        shown = [f"{first} ({splits[first]}), {second} ({splits[second]})" for first, second in leaks[:3]]
        raise DataError(f"{len(leaks)} leaks between the splits of {out}", *shown)
    echo("no leaks found")
    echo(f"use it: esmgn run --data {shlex.quote(str(store))} --set data.splits={shlex.quote(str(out))}")


def leaks(
    training: Annotated[
        Path, typer.Argument(help="Run folder, store, structure file or folder.", show_default=False)
    ],
    test: Annotated[Path, typer.Argument(help="The same, with test proteins.", show_default=False)],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Table to write (TSV).", show_default=False)
    ] = None,
    identity: Identity = None,
    shared_kmers: SharedKmers = 0.5,
) -> None:
    """List training proteins that are related to test proteins.

    Of a run folder, the first argument means its training and validation proteins, the second its test sets,
    or its validation set if it has none. Leave them out by --set data.exclude_similar_to=PATH.
    """
    from esmgn_core.engine.leaks import sequences_of
    from esmgn_core.machine.files import write_atomically
    from esmgn_core.related import checked, related_between
    from esmgn_core.store.sequences import similar_by_identity

    one, other = sequences_of(training, test=False), sequences_of(test, test=True)
    for note in (*one.notes, *other.notes):
        echo(f"note: {note}")
    pairs = dict(related_between(one.sequences, other.sequences, shared=shared_kmers))
    comparisons = []
    if identity is not None:
        pairs = dict(similar_by_identity(one.sequences, other.sequences, identity)) | pairs
        comparisons.append(f"MMseqs2 at {100 * identity:g} % identity")
    trained, tested = one.sequences.names, other.sequences.names
    rows = [(trained[first], tested[second]) for first, second in sorted(pairs.items())]
    number = f"{len(rows):,} of {counted(len(trained), 'training protein')}"
    echo(f"related to {counted(len(tested), 'test protein')}: {number}")
    for line in checked(shared_kmers, *comparisons):
        echo(line)
    if out:
        text = "".join(f"{printable(first)}\t{printable(second)}\n" for first, second in rows)
        write_atomically(out, f"training\trelated_to\n{text}")
        echo(f"written: {out}")
    else:
        for first, second in rows[:_SHOWN_LEAKS]:
            echo(f"{printable(first)}\trelated to {printable(second)}")
        if len(rows) > _SHOWN_LEAKS:
            echo(f"... and {len(rows) - _SHOWN_LEAKS:,} more: -o FILE writes all")
    if rows:
        raise typer.Exit(1)


def export(
    store: StorePath,
    name: Annotated[
        list[str] | None, typer.Argument(help="Names of proteins. Default: all.", show_default=False)
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the files.", show_default=False)
    ] = None,
    form: Annotated[str, typer.Option("--format", help="pdb or cif.")] = "cif",
    fasta: Annotated[
        Path | None, typer.Option(help="FASTA file to write, with all sequences.", show_default=False)
    ] = None,
) -> None:
    """Write proteins of a store as structure files, or their sequences as FASTA.

    A store built from these files has the same coordinates, residue numbers and pLDDT.
    """
    from esmgn_core.store import Store
    from esmgn_core.store.export import export_structures
    from esmgn_core.store.splits import write_fasta

    opened = Store(store)
    if form not in ("pdb", "cif"):
        raise SettingsError(f"unknown value '{form}' (--format)", "available: pdb, cif")
    if out is None and fasta is None:
        raise SettingsError("nothing to write", "give a folder, --out DIR, or a file, --fasta FILE")
    if fasta is not None:
        write_fasta(opened, fasta)
        echo(f"{len(opened)} sequences: {fasta}")
    if out is not None:
        echo(f"{counted(export_structures(opened, name or None, out, form), 'structure')}: {out}")


def merge(
    store: Annotated[
        list[Path], typer.Argument(metavar="STORE...", help="Finished stores.", show_default=False)
    ],
    *,
    out: OutStore,
) -> None:
    """Merge finished stores of one layout into a new store."""
    from esmgn_core.store.merge import merge_stores

    merge_stores(store, out)
    _summary(out)


def fetch(
    what: Annotated[
        str,
        typer.Argument(
            help="alphafold_v1, alphafold_latest, or a file of PDB ids or UniProt accessions.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.", show_default=False)],
    only: Annotated[
        list[str] | None, typer.Option(help="Only archives with this text in their name.", show_default=False)
    ] = None,
) -> None:
    """Download structures: a named set, or a list of entries.

    Run the same command again to continue; finished files are kept. Next step: esmgn data build DIR -o STORE.
    """
    from esmgn_core.store.fetch import fetch_structures

    for line in fetch_structures(what, out, only or ()):
        echo(line)
    echo(f"build a store: esmgn data build {shlex.quote(str(out))} -o STORE")


def _summary(path: Path) -> int:
    """Print a summary of a store, and return the number of its proteins."""
    from esmgn_core.store import Store
    from esmgn_core.store.report import notes

    store = Store(path)
    residues = int(store.lengths.sum())
    columns, index = store.num_bytes
    num_refused = len(store.index(["name"], refused=True))
    lines = [
        ("proteins", f"{len(store):,}"),
        ("residues", f"{residues:,}"),
        ("refused", f"{num_refused:,}"),
        ("keeps", f"atoms '{store.layout.atoms}', coordinates '{store.layout.coordinates}'"),
        ("features", ", ".join(store.layout.annotations) or "none"),
        ("size", f"{columns / 1e6:,.1f} MB and {index / 1e6:,.1f} MB of index"),
    ]
    if residues:
        lines.append(("", f"{columns / residues:.2f} bytes per residue and {index / residues:.2f} of index"))
    block(table(lines, indent=""))
    for note in notes(store):
        echo(f"note: {note}")
    if num_refused:
        echo(f"reasons: esmgn data list {shlex.quote(str(path))} --refused")
    if not store.is_finished:
        echo(f"the build is not finished; go on: esmgn data build -o {shlex.quote(str(path))}")
    return len(store)


def _layout(
    atoms: str | None, coordinates: str | None, *, secondary_structure: bool, exposure: bool
) -> Layout | None:
    """The requested layout; ``None`` for the layout of the store, or the default."""
    from typing import get_args

    from esmgn_core.store import Layout
    from esmgn_core.store.settings import Atoms, Coordinates

    if atoms is None and coordinates is None and not (secondary_structure or exposure):
        return None
    atoms, coordinates = atoms or "backbone", coordinates or "fixed"
    for flag, value, known in (("--atoms", atoms, Atoms), ("--coordinates", coordinates, Coordinates)):
        check_choice("value", value, get_args(known), flag)
    columns = {"secondary_structure": secondary_structure, "exposure": exposure}
    return Layout(atoms, coordinates, **columns)  # type: ignore[arg-type]  # checked above


def _share(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, second = text.partition("/")
    if not (first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise SettingsError(f"cannot read --shard '{text}'", "expected I/N with I from 1 to N, such as 3/20")
    return int(first), int(second)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


COMMANDS: Mapping[str, Callable[..., None]] = {
    "build": build,
    "info": info,
    "list": list_proteins,
    "show": show,
    "verify": verify,
    "report": report,
    "split": split,
    "leaks": leaks,
    "export": export,
    "merge": merge,
    "fetch": fetch,
}
"""Subcommands of ``esmgn data``."""
