"""The tasks this distribution ships: one folder a task, one line here."""

from harness_plugin import hookimpl
from harness_plugin.plugins.hookspecs import Register


@hookimpl
def register_tasks(register: Register) -> None:
    """Offer the built-in tasks."""
    register(
        "anli",
        "harness_plugin_tasks.anli:anli.yaml",
        summary="NLI written to fool models: ANLI, three rounds",
    )
    register(
        "cad_imdb",
        "harness_plugin_tasks.cad_imdb:cad_imdb.yaml",
        summary="sentiment trusted through genre: IMDb reviews, tested on their revisions",
    )
    register(
        "cad_nli",
        "harness_plugin_tasks.cad_nli:cad_nli.yaml",
        summary="NLI read off the hypothesis: SNLI pairs, tested on revisions of either sentence",
    )
    register(
        "celeba_bias",
        "harness_plugin_tasks.celeba_bias:celeba_bias.yaml",
        summary="hair colour trusted through gender: CelebA, any attribute pair",
    )
    register(
        "civilcomments",
        "harness_plugin_tasks.civilcomments:civilcomments.yaml",
        summary="toxicity read off mentions of people: CivilComments, 16 overlapping cells",
    )
    register(
        "cmnist",
        "harness_plugin_tasks.cmnist:cmnist.yaml",
        summary="digits trusted through colour: MNIST, ten classes or the binary IRM design",
    )
    register(
        "corrupted_cifar10",
        "harness_plugin_tasks.corrupted_cifar10:corrupted_cifar10.yaml",
        summary="objects trusted through corruptions: CIFAR-10, a corruption a class",
    )
    register(
        "csv_groups",
        "harness_plugin_tasks.csv_groups:csv_groups.yaml",
        summary="template: texts of your own table (CSV, TSV, JSON lines, Parquet)",
    )
    register(
        "dominoes",
        "harness_plugin_tasks.dominoes:dominoes.yaml",
        summary="vehicles trusted through a digit: MNIST above CIFAR-10",
    )
    register(
        "fever_symmetric",
        "harness_plugin_tasks.fever_symmetric:fever_symmetric.yaml",
        summary="fact verification read off the claim: FEVER, tested on FEVER-Symmetric",
    )
    register(
        "hans",
        "harness_plugin_tasks.hans:hans.yaml",
        summary="NLI that trusts word overlap: trained on NLI, tested on HANS",
    )
    register(
        "imagefolder_groups",
        "harness_plugin_tasks.imagefolder_groups:imagefolder_groups.yaml",
        summary="template: images named in your own table (CSV, TSV, JSON lines, Parquet)",
    )
    register(
        "mnli_hard",
        "harness_plugin_tasks.mnli_hard:mnli_hard.yaml",
        summary="NLI that reads the hypothesis only: MultiNLI and its hard pairs",
    )
    register(
        "mnli_negation",
        "harness_plugin_tasks.mnli_negation:mnli_negation.yaml",
        summary="NLI that trusts negation words: MultiNLI, label x negation",
    )
    register(
        "nli_stress",
        "harness_plugin_tasks.nli_stress:nli_stress.yaml",
        summary="NLI under distortions that change no label: the stress tests",
    )
    register(
        "pacs_bias",
        "harness_plugin_tasks.pacs_bias:pacs_bias.yaml",
        summary="content trusted through style: PACS, two labels in a domain each",
    )
    register(
        "qqp_paws",
        "harness_plugin_tasks.qqp_paws:qqp_paws.yaml",
        summary="paraphrases told by word overlap: QQP, tested on PAWS",
    )
    register(
        "snli_hard",
        "harness_plugin_tasks.snli_hard:snli_hard.yaml",
        summary="NLI that reads the hypothesis only: SNLI and its hard pairs",
    )
    register(
        "waterbirds",
        "harness_plugin_tasks.waterbirds:waterbirds.yaml",
        summary="birds trusted through their background: land birds and water birds",
    )
