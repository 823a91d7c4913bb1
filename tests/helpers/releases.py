"""Small copies of releases as files and as hub repositories, and what is read off their splits."""

import json

import datasets

PAIRS = ("premise", "hypothesis", "question1", "question2")


def write_json(file, rows):
    """One object a line, without a newline at the end."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def write_tab(file, header, rows, width=None):
    """A header and rows, which may end after `width` fields."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *([row.get(name, "") for name in header][:width] for row in rows)]
    file.write_text("".join("\t".join(line) + "\n" for line in lines))
    return file


def edit(file, old, new):
    """The first `old` of a file becomes `new`; both are text or bytes."""
    content = file.read_text() if isinstance(old, str) else file.read_bytes()
    assert old in content
    changed = content.replace(old, new, 1)
    file.write_text(changed) if isinstance(old, str) else file.write_bytes(changed)


def hub_rows(names, columns):
    """Rows of texts and named labels, as hub repositories hold them; `-` is -1."""
    features = {name: datasets.Value("string") for name in columns}
    features["label"] = datasets.ClassLabel(names=list(names))
    index = {**{name: i for i, name in enumerate(names)}, "-": -1}
    columns = {**columns, "label": [index[label] for label in columns["label"]]}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def write_parquet(folder, loaded, layout="data/{}-00000-of-00001.parquet"):
    """One file a split."""
    for name, rows in loaded.items():
        file = folder / layout.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(file)
    return folder


def purposes(data):
    """Split -> what it is for."""
    return {name: split.purpose for name, split in data.splits.items()}


def group_rows(split):
    """Group -> its rows."""
    return dict(zip(split.groups, split.group_counts.tolist(), strict=True))


def pairs_of(split):
    """The two texts of every row."""
    columns = [name for name in PAIRS if name in split.rows.column_names]
    return list(zip(*(split.rows[name] for name in columns), strict=True))
