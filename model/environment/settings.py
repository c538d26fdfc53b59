"""Settings of the environment: where it comes from, how it is pooled, and what joins it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from data_pipeline.settings import Settings, searched
from model.environment.encoders import ENCODERS
from model.environment.id_teacher import TeacherSettings
from model.environment.profile_encoder import ProfileSettings

if TYPE_CHECKING:
    EncoderName = str
else:
    EncoderName = Literal[("none", *ENCODERS)]


class EnvironmentSettings(Settings):
    """What the environment is inferred from, and how large it is."""

    encoder: EncoderName = Field(
        default="mean",
        description="How the support set becomes z_E: `none` leaves it zero, "
        + ", ".join(f"`{name}` {encoder.summary}" for name, encoder in ENCODERS.items())
        + ".",
    )
    width: int = Field(default=16, ge=1, le=1024, json_schema_extra=searched(4, 64, log=True, integer=True))
    """Dimensions of z_E."""
    hidden: int = Field(default=64, ge=1, le=4096)
    """Hidden units of the per-pair code."""
    depth: int = Field(default=1, ge=0, le=6)
    """Hidden layers of the per-pair code."""
    dropout: float = Field(default=0.1, ge=0.0, le=0.9, json_schema_extra=searched(0.0, 0.5))
    """Dropout in the per-pair code."""
    heads: int = Field(default=4, ge=1, le=64)
    """Attention heads over the support set; `width` is a multiple of it."""
    inducing: int = Field(default=8, ge=1, le=1024)
    """Inducing points of `isab`."""
    prototypes: int = Field(default=8, ge=2, le=1024, json_schema_extra=searched(2, 32, log=True, integer=True))
    """Prototypes of `prototypes`."""
    prototype_temperature: float = Field(default=0.1, gt=0.0, le=10.0)
    """Temperature of the softmax over prototypes, in units of the cosine."""
    fusion: Literal["none", "gp"] = "none"
    """Whether z_E is fused with what lines of like features v_c have (a Gaussian process over v_c)."""
    gp_noise: float = Field(default=0.3, gt=0.0, le=10.0)
    """Standard deviation of a training line's mean code about its true z_E, relative to the spread of lines."""
    trunk_gradient: bool = False
    """Whether the support set's gradient reaches the trunk; false protects U_I and costs less."""
    support_signals: bool = True
    """Whether the per-pair code sees the support pairs' signals."""
    line_features: bool = False
    """Whether the per-pair code sees the line's feature vector v_c."""
    labelled_support: bool = False
    """Few-shot protocol: whether the per-pair code sees the support pairs' labels; report it apart."""
    query_attention: bool = False
    """Whether each query pair attends to the support set, so that the environment a(c, x) depends on the pair."""
    local: bool = True
    """Whether the query pair's own signals join the environment as e(c, x)."""
    local_width: int = Field(default=16, ge=1, le=1024)
    """Dimensions of e(c, x), and of a(c, x)."""
    local_hidden: int = Field(default=64, ge=1, le=4096)
    """Hidden units of e(c, x)."""
    local_depth: int = Field(default=2, ge=0, le=6)
    """Hidden layers of e(c, x)."""
    local_dropout: float = Field(default=0.1, ge=0.0, le=0.9, json_schema_extra=searched(0.0, 0.5))
    """Dropout in e(c, x)."""
    profile: ProfileSettings = ProfileSettings()
    """A second e(c, x), of the profile of the landscape along the pair; `local_width` numbers as well."""
    context_dropout: float = Field(default=0.1, ge=0.0, le=1.0, json_schema_extra=searched(0.0, 0.5))
    """Probability per episode, in training, that z_E is replaced by the prior mean."""
    id_teacher: TeacherSettings = TeacherSettings()
    """A learnt vector of the line itself, in training only."""
    memory: float = Field(default=0.99, ge=0.0, lt=1.0)
    """How much of the running means (prior mean, gauge) a step keeps."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> EnvironmentSettings:
        if (self.encoder in ("attention", "isab") or self.query_attention) and self.width % self.heads:
            raise ValueError(f"environment.width {self.width} is not a multiple of its {self.heads} heads")
        return self

    @model_validator(mode="after")
    def _has_codes(self) -> EnvironmentSettings:
        wants = [
            name
            for name, on in (
                ("query_attention=true", self.query_attention),
                ("labelled_support=true", self.labelled_support),
                ("fusion=gp", self.fusion == "gp"),
            )
            if on
        ]
        if wants and self.encoder in ("none", "features"):
            raise ValueError(f"environment.{wants[0]} needs codes of support pairs; encoder={self.encoder} has none")
        if self.id_teacher.on and self.encoder == "none":
            raise ValueError("environment.id_teacher.on=true needs an environment to teach; encoder=none has none")
        return self
