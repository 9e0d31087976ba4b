"""Who runs each block of the documentation: every block of bash, Python and YAML is in exactly one of three tables.

Tables are by page, then by words that the block holds. `EVERY` stands for the page's blocks that no other words claim.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.docs.page import Block, pages, read_blocks

__all__ = ["CHECKED_ONLY", "EVERY", "LANGUAGES", "RUN_ELSEWHERE", "SCENARIOS", "blocks_of", "claims"]

Table = Mapping[str, Mapping[str, str]]

EVERY = ""
#: Blocks in other languages show what is printed, and are not run.
LANGUAGES = ("bash", "console", "python", "sh", "yaml")

_MACHINES = "tests/docs/test_campaigns.py"
_SERVICES = "tests/docs/test_commands.py"
_YAML = "tests/docs/test_yaml.py"
#: Run, as written, by a test of this folder, which gets its blocks from `blocks_of`.
SCENARIOS: Table = {
    "README.md": {
        "isocost run reviews.yaml": f"{_SERVICES}::test_readme",
        "campaign: reviews": f"{_SERVICES}::test_readme",
    },
    "docs/annotating.md": {
        "sources:": f"{_YAML}::test_parts_of_campaign_files",
        EVERY: f"{_SERVICES}::test_annotating",
    },
    "docs/budget_service.md": {EVERY: f"{_SERVICES}::test_budget_service"},
    "docs/bulk_labelling.md": {
        "name: claims": f"{_SERVICES}::test_bulk_labelling",
        "isocost label --input claims.csv --output labels.parquet": f"{_SERVICES}::test_bulk_labelling",
        "isocost predict": f"{_MACHINES}::test_bulk_predictions",
        "--ray local": f"{_MACHINES}::test_bulk_labelling_on_ray",
    },
    "docs/closed_models.md": {EVERY: f"{_SERVICES}::test_closed_models"},
    "docs/labeler.md": {EVERY: f"{_SERVICES}::test_labeler"},
    "docs/operations.md": {"isocost doctor --database-url": f"{_MACHINES}::test_doctor"},
    "docs/paper.md": {"microworld_sweep.yaml --dry-run": f"{_SERVICES}::test_paper"},
    "docs/pipeline.md": {
        "isocost serve budget": f"{_SERVICES}::test_pipeline",
        "isocost export": f"{_SERVICES}::test_pipeline",
        EVERY: f"{_SERVICES}::test_pipeline_snippets",
    },
    "docs/policy.md": {"isocost": f"{_SERVICES}::test_policy"},
    "docs/ray.md": {
        "isocost label": f"{_MACHINES}::test_ray",
        "isocost serve trainer": f"{_MACHINES}::test_ray",
    },
    "docs/remote_vllm.md": {EVERY: f"{_MACHINES}::test_remote_vllm"},
    "docs/replay.md": {"isocost": f"{_SERVICES}::test_replay"},
    "docs/sweep.md": {
        "methods:": f"{_YAML}::test_parts_of_sweep_specs",
        "weak_labellers:": f"{_YAML}::test_parts_of_sweep_specs",
        "isocost sweep": f"{_SERVICES}::test_sweep",
    },
    "docs/sweep_report.md": {EVERY: f"{_SERVICES}::test_sweep"},
    "docs/tasks.md": {"load_benchmark": f"{_SERVICES}::test_tasks", EVERY: f"{_YAML}::test_task_files"},
    "docs/testbed.md": {"isocost microworld items": f"{_SERVICES}::test_testbed"},
    "docs/trainer.md": {"--port 7603": f"{_SERVICES}::test_trainer"},
    "docs/tutorial.md": {
        "campaign: facts": f"{_YAML}::test_the_tutorial_shows_its_campaign_file",
        EVERY: f"{_MACHINES}::test_tutorial",
    },
    "docs/web.md": {EVERY: f"{_SERVICES}::test_web"},
    "docs/weak_model.md": {
        "isocost label": f"{_SERVICES}::test_weak_model",
        "sources:": f"{_YAML}::test_parts_of_campaign_files",
    },
}

_BACKUP = "budget/test_budget_backup.py::test_a_backup_taken_under_load_is_whole_and_is_gone_on_from"
_EXAMPLE = "client/test_pipeline.py::test_pages_show_the_example_word_for_word"
_ALERTS = "test_operations_page.py::test_alerts_are_rules_of_known_metrics_and_each_is_explained"
_TWO_SOURCES = "test_labels_are_bought_from_the_source_that_promises_the_higher_accuracy"
_RUNS = "test_the_frontier_of_runs_is_that_of_their_evaluations"

#: Run by a test that is elsewhere for other reasons.
RUN_ELSEWHERE: Table = {
    "README.md": {"SyncBudgetClient": f"tests/integration/{_EXAMPLE}"},
    "docs/files.md": {EVERY: "tests/integration/client/test_exchange.py"},
    "docs/kubernetes.md": {
        "kind: Kustomization": "tests/unit/deploy/test_documentation.py::test_the_overlay_of_ones_own_renders"
    },
    "docs/label_studio.md": {EVERY: "tests/integration/label_studio/test_label_studio.py"},
    "docs/operations.md": {
        "isocost doctor --out": "tests/unit/cli/test_cli_doctor.py::test_the_database_of_an_output_folder_is_looked_at",
        "source.backup(": f"tests/integration/{_BACKUP}",
        'cp "$BACKUP"': f"tests/integration/{_BACKUP}",
        "pg_dump": f"tests/integration/{_BACKUP}",
        "pg_restore": f"tests/integration/{_BACKUP}",
        "groups:": f"tests/unit/doctor/{_ALERTS}",
    },
    "docs/pipeline.md": {"Never again.": f"tests/integration/{_EXAMPLE}"},
    "docs/trainer.md": {"get_frontier": f"tests/integration/trainer/test_sweep_rpc.py::{_RUNS}"},
    "docs/weak_model.md": {"two_weak_sources.yaml": f"tests/e2e/test_weak_sources.py::{_TWO_SOURCES}"},
}

_CLUSTER = "there is no cluster"
_REGISTRY = "installs from a registry"
_MINUTES = "takes too long"
_SUITE = "is this suite, or what it starts from"

#: Not run: only its commands, options, targets and files are held against what there is. Each with its reason.
CHECKED_ONLY: Table = {
    "CONTRIBUTING.md": {"make setup": _SUITE},
    "README.md": {"make demo": f"{_SUITE}; tests/e2e/test_campaign.py runs the same campaign, smaller"},
    "docs/bulk_labelling.md": {"pip install": _REGISTRY},
    "docs/concepts.md": {"take.py": f"{_MINUTES}: it makes the figures again"},
    "docs/index.md": {"make demo": f"{_SUITE}; tests/e2e/test_campaign.py runs the same campaign, smaller"},
    "docs/kubernetes.md": {
        "docker build": "there is no docker",
        "create namespace": _CLUSTER,
        "kubectl apply -k": _CLUSTER,
        "isocost token create": _CLUSTER,
        "kubectl kustomize": f"{_CLUSTER}; tests/unit/deploy renders the overlay",
        "isocost-sweep": _CLUSTER,
    },
    "docs/paper.md": {
        "--n-workers 2": f"{_MINUTES}: twenty; tests/integration/sweep runs a smaller grid",
        "paper_sweep.yaml --dry-run": "reads its tasks from the hub",
        "paper_sweep.yaml --out": "needs GPUs and the hub",
    },
    "docs/policy.md": {"make bench-policy": f"{_MINUTES}; tests/unit/replay runs its parts"},
    "docs/ray.md": {
        "pip install": _REGISTRY,
        "isocost sweep": f"{_MINUTES}; tests/integration/sweep runs a smaller grid",
    },
    "docs/replay.md": {"make bench-policy": f"{_MINUTES}; tests/unit/replay runs its parts"},
    "docs/testbed.md": {"pretrain": f"{_MINUTES}; tests/unit/embedded/test_testbed.py makes a smaller table"},
    "docs/trainer.md": {
        "pip install": _REGISTRY,
        "RAY_ADDRESS": "needs several machines; tests/integration/trainer/test_ray.py has a cluster of one",
    },
}

_TABLES = {"scenario": SCENARIOS, "elsewhere": RUN_ELSEWHERE, "checked": CHECKED_ONLY}


def claims(block: Block) -> list[tuple[str, str, str]]:
    """All that claim a block: table, words, and the test or the reason. One is right."""
    found = [
        (name, words, account)
        for name, table in _TABLES.items()
        for words, account in table.get(block.page, {}).items()
        if words and words in block.text
    ]
    return found or [
        (name, EVERY, table[block.page][EVERY]) for name, table in _TABLES.items() if EVERY in table.get(block.page, {})
    ]


def blocks_of(test: str) -> list[Block]:
    """The blocks that a scenario has to run, in the order of their pages."""
    return [
        block
        for page in pages()
        for block in read_blocks(page)
        if block.language in LANGUAGES and any(account.endswith(f"::{test}") for _, _, account in claims(block))
    ]
