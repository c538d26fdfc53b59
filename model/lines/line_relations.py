"""How far apart the training lines are: by their feature vectors, or in a configured tree of tissues.

Distances are set once, when a run is assembled, and kept in a buffer, so that a checkpoint carries them. A distance by
features is Euclidean over standardised features, in units of the median between two lines; one in the tree counts its
edges, each line being a leaf of its own. Until they are set every two lines are 1 apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

import torch
from torch import Tensor, nn

from data_pipeline.errors import UserError

Kind = Literal["features", "tree", "even"]
"""What relates lines: feature vectors, places in the tree, or nothing."""
Relation = Literal["features", "tree", "even", "auto"]
"""What is asked for; `auto` is the first of the kinds that the lines have."""


def feature_distances(features: Tensor) -> Tensor:
    """(C, C) distances of lines by features (C, F), NaN missing; the median between two lines is 1.

    Every feature is standardised over the lines, and counts as average where it is missing.
    """
    centred = features.double() - features.double().nanmean(dim=0)
    deviation = centred.square().nanmean(dim=0).sqrt()
    scaled = (centred / deviation).nan_to_num(0.0, posinf=0.0, neginf=0.0)
    distance = torch.cdist(scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist")
    between = distance[~torch.eye(len(features), dtype=torch.bool)]
    median = between.median() if len(between) else torch.ones(())
    return (distance / median if median > 0 else distance).float()


def tree_distances(paths: Sequence[str]) -> Tensor:
    """(C, C) edges between lines that are leaves below `paths`, nodes from the root separated by '/'."""
    nodes = [path.strip("/").split("/") for path in paths]
    distance = torch.zeros(len(nodes), len(nodes))
    for i, own in enumerate(nodes):
        for j, other in enumerate(nodes):
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, other, strict=False)))
            distance[i, j] = 0.0 if i == j else len(own) + len(other) - 2 * shared + 2
    return distance


def related(relation: Relation, tissues: dict[str, str], names: Sequence[str], features: Tensor) -> tuple[Kind, Tensor]:
    """What relates the lines `names` with features (C, F), and their (C, C) distances.

    `auto` takes features where there are any, else the tree where it has every line, else nothing: all are 1 apart.
    Raises `UserError` if the relation asked for needs what these lines do not have.
    """
    homeless = [name for name in names if name not in tissues]
    if relation == "features" and features.shape[1] == 0:
        raise UserError(
            "a hierarchy or graph by features needs lines with feature vectors, and this store's lines have none; "
            "add line features at ingest, or set model.tissues and the relation 'tree'"
        )
    if relation == "tree" and homeless:
        raise UserError(
            f"the tree of tissues has no place for {', '.join(homeless)}; add each to model.tissues as "
            "name: path/from/the/root"
        )
    if relation == "features" or (relation == "auto" and features.shape[1]):
        return "features", feature_distances(features)
    if relation == "tree" or (relation == "auto" and not homeless):
        return "tree", tree_distances([tissues[name] for name in names])
    return "even", 1.0 - torch.eye(len(names))


class RelatedLines(nn.Module, ABC):
    """Base of what has to be told who the training lines are, once, when a run is assembled."""

    @abstractmethod
    def set_lines(self, names: Sequence[str], features: Tensor) -> None:
        """Take the training lines' names and feature vectors (C, F), in the order of their indices.

        Raises `UserError` if these lines do not have what is needed.
        """


class LineDistances(RelatedLines):
    """Distances between the C training lines."""

    distance: Tensor

    def __init__(self, relation: Relation, tissues: dict[str, str], lines: int) -> None:
        """`tissues` gives a line's path in the tree of tissues by its name."""
        super().__init__()
        self.relation, self.tissues = relation, tissues
        self.register_buffer("distance", 1.0 - torch.eye(lines))

    def forward(self) -> Tensor:
        """(C, C) distances, zero on the diagonal."""
        return self.distance.clone()

    def set_lines(self, names: Sequence[str], features: Tensor) -> None:
        """See `RelatedLines`."""
        self.distance.copy_(related(self.relation, self.tissues, names, features)[1])
