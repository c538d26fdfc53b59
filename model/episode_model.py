"""The model of an episode: trunk, environment and energy on one road for training, evaluation and prediction.

`represent` turns a batch into pair features h, `score_episodes` turns h and the pairs' numbers into logits; prediction
may cache the pieces (`trunk.encode`, `trunk.pair_features`, `infer_environment`, `score`), which are the same calls.
The model owns no parameter itself: every weight is read inside the forward of the module that owns it (ZeRO-3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from data_pipeline.episodes import EpisodeBatch
from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, searched
from model.energy import Energy, EnergySettings
from model.environment import (
    CompetitionSettings,
    EnvironmentSettings,
    LocalEnvironment,
    ProfileEncoder,
    Student,
    SupportEncoder,
    query_attention,
)
from model.erasure import Eraser
from model.features import (
    DISTANCE_WIDTH,
    AssayDropout,
    SignalSettings,
    Standardiser,
    distance_features,
    signal_encoder,
)
from model.layers import mlp
from model.scores import Scores, StudentView
from model.sequence import Trunk, TrunkSettings


class ModelSettings(Settings):
    """Everything that shapes the model; saved with each checkpoint and export."""

    trunk: TrunkSettings = TrunkSettings()
    """The sequence encoder."""
    signals: SignalSettings = SignalSettings()
    """Preparation of signals and line features."""
    environment: EnvironmentSettings = EnvironmentSettings()
    """What is inferred about the cell line."""
    energy: EnergySettings = EnergySettings()
    """How sequence and environment meet."""
    tissues: dict[str, str] = Field(default={})
    """Path of each cell line in a tree of tissues, such as `HeLa: epithelial/cervix`, for what relates lines."""
    competition: CompetitionSettings = CompetitionSettings()
    """Prototype graph, teacher, student and opportunist."""
    erasure: Literal["off", "leace"] = "off"
    """Whether what a linear probe could tell of the line is taken out of z_I."""
    invariant_noise: float = Field(default=0.0, ge=0.0, le=0.6, json_schema_extra=searched(0.0, 0.5))
    """Standard deviation of the noise on z_I in training, which gives its information a bound (terms.bottleneck)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the trunk; heads and losses are always fp32."""

    @model_validator(mode="after")
    def _has_input(self) -> ModelSettings:
        if self.trunk.size == "none" and not self.energy.use_distance:
            raise ValueError("trunk.size=none needs energy.use_distance=true: the intrinsic energy has no other input")
        if self.competition.on and self.environment.encoder == "none":
            raise ValueError("competition.on needs environment.encoder: the student reads the pooled support codes")
        return self


class EpisodeModel(nn.Module):
    """P(interaction) of the query pairs of each episode, given its unlabelled support set."""

    environment_scale: Tensor

    def __init__(
        self, settings: ModelSettings, signals: int, line_features: int, lines: int = 0, tracks: int = 0
    ) -> None:
        """`signals`, `line_features`: S and F of the store; `lines`: C training lines, for what is kept per line.

        `tracks`: W of the store's landscapes. Raises `UserError` if nothing informs the environment, or a profile is to
        be read and there are no landscapes.
        """
        super().__init__()
        self.settings = settings
        shape = settings.trunk.shape
        self.trunk = Trunk(shape) if shape else None
        features, self.combined = (self.trunk.features, self.trunk.combined) if self.trunk else (0, 0)
        env, energy = settings.environment, settings.energy
        inputs = self.combined + (DISTANCE_WIDTH if energy.use_distance else 0)
        self.invariant = mlp([inputs, energy.invariant_hidden, energy.invariant_width], energy.dropout)
        self.erasure = Eraser(energy.invariant_width, lines, env.memory) if settings.erasure == "leace" else None
        self.standardise_signals = signal_encoder(signals, settings.signals)
        self.standardise_line = Standardiser(line_features, settings.signals)
        tracks = tracks if env.profile.on else 0
        self.measured = AssayDropout(signals + tracks, settings.signals.dropout)
        encoded = self.standardise_signals.outputs
        self.support = SupportEncoder(env, features, encoded, line_features, lines)
        local = env.local_width if env.local and signals else 0
        attended = env.local_width if env.query_attention else 0
        profiled = env.local_width if env.profile.on else 0
        self.energy = Energy(energy, env.width, local + attended + profiled, env.memory)
        self.local = LocalEnvironment(env, encoded) if local else None
        self.attention = query_attention(env)
        rival = settings.competition
        self.student = Student(rival, settings.tissues, env.width, lines) if rival.on else None
        self.register_buffer("environment_scale", torch.ones(()))
        self.withheld: Tensor | None
        left_out = torch.zeros(signals, dtype=torch.bool) if settings.signals.leave_out else None
        self.register_buffer("withheld", left_out)
        # Last, so that the other parts begin as they do without it.
        self.profile = _profile_encoder(env, tracks)

    def fit_profile(self, profiles: Tensor) -> None:
        """Fit the encoding of profiles to raw ones (N, L, 2 W + 4) of the training lines."""
        if self.profile is not None:
            self.profile.fit(profiles)

    def fit_signals(self, values: Tensor) -> None:
        """Fit the encoding of signals to raw values (N, S) of the training lines, NaN where missing."""
        self.standardise_signals.fit(values)

    def withhold(self, tracks: Tensor) -> None:
        """Never look at `tracks` (S,) or, with a profile, (S + W,) bool, those that `signals.leave_out` names."""
        if self.withheld is not None:
            self.withheld.copy_(tracks[: len(self.withheld)])
            if self.profile is not None:
                self.profile.withhold(tracks[len(self.withheld) :])

    def set_assays(self, needs: Tensor) -> None:
        """Which of A assays (A, S), with a profile (A, S + W), bool each signal and track needs, for training with
        assays missing."""
        self.measured.set_assays(needs)

    def fit_line_features(self, values: Tensor) -> None:
        """Fit the encoding of line features to those (C, F) of the training lines."""
        self.standardise_line.fit(values)

    def represent(self, batch: EpisodeBatch) -> Tensor:
        """Pair features h (E, m+n, d) float32; d = 0 without a trunk.

        Raises `UserError` if the trunk needs sequences and the batch has none.
        """
        if self.trunk is None:
            return batch.distance.new_zeros(*batch.enhancer.shape, 0)
        if batch.enhancer_packed.shape[1] == 0 or batch.promoter_packed.shape[1] == 0:
            raise UserError("the store has no sequences; set model.trunk.size=none to train on signals and distance")
        with self.precision_context(batch.enhancer_packed.device.type):
            enhancers = self.trunk.encode("enhancer", batch.enhancer_packed)
            promoters = self.trunk.encode("promoter", batch.promoter_packed)
            query = self._pairs(enhancers, promoters, batch, slice(batch.support, None))
            keep_graph = torch.is_grad_enabled() and self.settings.environment.trunk_gradient
            with torch.set_grad_enabled(keep_graph):
                support = self._pairs(enhancers, promoters, batch, slice(None, batch.support))
        return torch.cat([support, query], dim=1).float()

    def precision_context(self, device_type: str) -> torch.autocast:
        """The arithmetic of the trunk, for whoever calls it directly."""
        return torch.autocast(device_type, dtype=torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _pairs(
        self, enhancers: tuple[Tensor, Tensor], promoters: tuple[Tensor, Tensor], batch: EpisodeBatch, part: slice
    ) -> Tensor:
        assert self.trunk is not None
        enhancer, promoter = batch.enhancer[:, part], batch.promoter[:, part]
        features = self.trunk.pair_features(enhancers, promoters, enhancer.flatten(), promoter.flatten())
        return features.view(*enhancer.shape, -1)

    def infer_environment(
        self,
        h: Tensor,
        signals: Tensor,
        line_features: Tensor,
        labels: Tensor | None = None,
        line: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """z_E (E, dE) and the codes (E, m, dE) of the support pairs it comes from.

        Support features h (E, m, d), raw signals (E, m, S), raw line_features (E, F); labels (E, m) of the labelled
        protocol; line (E,) int64 in training, for what is kept per line.
        """
        pooled, codes = self._pooled(h, signals, line_features, labels, line)
        return self._studied(pooled, codes, line), codes

    def _seen(self, signals: Tensor) -> Tensor:
        """Raw signals (..., S) with NaN for what is left out."""
        return signals if self.withheld is None else signals.masked_fill(self.withheld, torch.nan)

    def _pooled(
        self, h: Tensor, signals: Tensor, line_features: Tensor, labels: Tensor | None, line: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        own = self.standardise_line(line_features)
        return self.support(h, self.standardise_signals(self._seen(signals)), own, labels, line)

    def _studied(self, pooled: Tensor, codes: Tensor, line: Tensor | None) -> Tensor:
        """z_E (E, dE): the pooled codes, or the student's mixture of prototypes; the prior without a support set."""
        if self.student is None or codes.shape[1] == 0:
            return pooled
        mixed: Tensor = self.student(pooled, line)
        return mixed

    def _compared(self, pooled: Tensor, line: Tensor | None, scores: Scores) -> StudentView | None:
        """What the competition looks at; the prototypes then learn from the step."""
        if self.student is None or not self.training or line is None or scores.codes.shape[1] == 0:
            return None
        log_choice, target, z = self.student.study(pooled.detach(), line)
        channels, strength = scores.channels.detach(), self.environment_scale.clone()
        response = self.energy.response(channels, z, strength)
        whole = self.energy.response(channels, z, torch.ones_like(strength)).detach()
        self.student.observe(line, pooled)
        return StudentView(log_choice, target, response, whole, strength)

    def attend(self, h: Tensor, signals: Tensor, line_features: Tensor, codes: Tensor) -> Tensor | None:
        """a(c, x) (E, n, dL), what query pairs see in the support codes (E, m, dE); None where the model has none.

        Query features h (E, n, d), raw signals (E, n, S), raw line_features (E, F). Zero without support (m = 0).
        """
        if self.attention is None:
            return None
        if codes.shape[1] == 0:
            return h.new_zeros(*h.shape[:2], self.settings.environment.local_width)
        own = self.support.codes(h, self.standardise_signals(self._seen(signals)), self.standardise_line(line_features))
        seen: Tensor = self.attention(own, codes)
        return seen

    def profiled(self, profile: Tensor | None, gone: Tensor | None = None) -> Tensor | None:
        """e(c, x) (E, n, dL) of raw profiles (E, n, L, 2 W + 4); None where the model reads none.

        `gone` (E, W) bool are tracks taken as not measured. Raises `ValueError` where a profile is wanted and missing.
        """
        if self.profile is None:
            return None
        if profile is None:
            raise ValueError("this model reads profiles; gather its batches with model.environment.profile.shape")
        code: Tensor = self.profile(profile, gone)
        return code

    def score(
        self,
        h: Tensor,
        distance: Tensor,
        signals: Tensor,
        environment: Tensor,
        attended: Tensor | None = None,
        line: Tensor | None = None,
        profiled: Tensor | None = None,
    ) -> Scores:
        """Scores of query pairs: h (E, n, d), distance (E, n) bp, raw signals (E, n, S), environment z_E (E, dE).

        `attended` is what `attend` returned, `profiled` what `profiled` did; None counts as zero. Training also gives
        the lines (E,) int64.
        """
        inputs = h[..., : self.combined]
        if self.settings.energy.use_distance:
            inputs = torch.cat([inputs, distance_features(distance)], dim=-1)
        local = []
        if self.local is not None:
            seen = self._seen(signals)
            local.append(self.local(self.standardise_signals(seen), ~seen.isnan().all(dim=-1)))
        if self.attention is not None:
            none = h.new_zeros(*h.shape[:2], self.settings.environment.local_width)
            local.append(none if attended is None else attended)
        if self.profile is not None:
            none = h.new_zeros(*h.shape[:2], self.settings.environment.local_width)
            local.append(none if profiled is None else profiled)
        joined = torch.cat(local, dim=-1) if local else None
        return self.energy(self._intrinsic(inputs, line), environment, joined, self.environment_scale.clone())

    def _intrinsic(self, inputs: Tensor, line: Tensor | None) -> Tensor:
        """z_I (E, n, dI) of the pairs' inputs (E, n, d), erased and, in training, noisy where the settings say so."""
        raw = self.invariant(inputs)
        if self.erasure is None:
            invariant = raw
        else:
            invariant = self.erasure(raw)
            if self.training and line is not None:
                self.erasure.observe(raw, line)
        if self.training and self.settings.invariant_noise > 0:
            invariant = invariant + self.settings.invariant_noise * torch.randn_like(invariant)
        return invariant

    def score_episodes(
        self,
        h: Tensor,
        distance: Tensor,
        signals: Tensor,
        line_features: Tensor,
        support: int,
        without_context: Tensor | None = None,
        *,
        support_labels: Tensor | None = None,
        line: Tensor | None = None,
        teacher: tuple[Tensor, Tensor] | None = None,
        profile: Tensor | None = None,
    ) -> Scores:
        """Scores of whole episodes: the first `support` of the m+n pairs are the support set.

        h (E, m+n, d), distance (E, m+n) bp, signals (E, m+n, S), line_features (E, F); where `without_context` (E,)
        bool is true the prior replaces z_E. `support_labels` (E, m) are read in the labelled protocol only. Training
        also gives the lines (E,) int64 and, with an id-teacher, its vectors (E, dE) and shares (E, 1); in training mode
        the priors then learn from this step. `profile` (E, n, L, 2 W + 4) is of the query pairs, for a model that reads
        one.
        """
        # What is left out is none of the assays of which one stays.
        signals, tracks = self._seen(signals), signals.shape[2]
        there = signals.isfinite().any(dim=1)
        if self.profile is not None and profile is not None:
            there = torch.cat([there, self.profile.known(profile)], dim=1)
        gone = self.measured.draw(there)
        if gone is not None:
            signals = signals.masked_fill(gone[:, None, :tracks], torch.nan)
        profiled = self.profiled(profile, None if gone is None else gone[:, tracks:])
        # Before anything is observed: what a step teaches the priors takes effect after it.
        prior = None if without_context is None else self.support.uninformed(self.standardise_line(line_features))
        pooled, codes = self._pooled(h[:, :support], signals[:, :support], line_features, support_labels, line)
        inferred = self._studied(pooled, codes, line)
        used = inferred if teacher is None else inferred + teacher[1] * (teacher[0] - inferred)
        attended = self.attend(h[:, support:], signals[:, support:], line_features, codes)
        if without_context is not None and prior is not None:
            withheld = without_context.unsqueeze(1)
            used = torch.where(withheld, prior, used)
            attended = None if attended is None else attended.masked_fill(withheld.unsqueeze(2), 0.0)
        if self.training:
            self.support.prior.observe(inferred)
        own = h[:, support:], distance[:, support:], signals[:, support:]
        scores = self.score(*own, used, attended, line, profiled)
        scores = replace(scores, environment=inferred, codes=codes)
        return replace(scores, student=self._compared(pooled, line, scores))

    def forward(self, batch: EpisodeBatch) -> Scores:
        """Scores of the batch's query pairs; the road of evaluation and prediction."""
        h = self.represent(batch)
        return self.score_episodes(
            h,
            batch.distance,
            batch.signals,
            batch.line_features,
            batch.support,
            support_labels=batch.support_labels,
            line=batch.line,
            profile=batch.profile,
        )

    def logits(self, batch: EpisodeBatch) -> Tensor:
        """(E, n) log-odds of the batch's query pairs."""
        return self(batch).logits


def _profile_encoder(settings: EnvironmentSettings, tracks: int) -> ProfileEncoder | None:
    if not settings.profile.on:
        return None
    if not tracks:
        raise UserError(
            "model.environment.profile.on=true needs a store with landscapes, and this one has none; ingest it with "
            "context.profile=true or set model.environment.profile.on=false"
        )
    return ProfileEncoder(settings.profile, tracks, settings.local_width)
