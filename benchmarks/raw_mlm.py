"""Pre-train a small BERT by masked language modeling alone: a raw model for the method.

The corpus is text, one paragraph per line. The vocabulary (WordPiece) is made from it. Texts are
packed into rows of a fixed length without attention across texts. 15 % of the tokens are
predicted; of these 80 % are replaced by [MASK], 10 % by a random token, 10 % stay (Devlin et al.
2019, section 3.1). Muon (Jordan et al. 2024) trains the matrices of the layers, and AdamW the rest.
The learning rates rise, stay constant, and fall to zero over the last fifth (warm-up, stable,
decay: Hu et al. 2024, *MiniCPM*, section 4). So a run can be extended without starting again.

    python benchmarks/raw_mlm.py CORPUS --out DIR --minutes 60
    python benchmarks/raw_mlm.py CORPUS --out DIR --minutes 60 --resume      # goes on

DIR becomes a checkpoint that transformers loads. The state of an unfinished run lies beside it,
in DIR.unfinished. On a CPU with the same number of threads, a run that was killed and resumed
ends with the same bytes as one that was not.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from mlm_data import UNPREDICTED, encode, make_tokenizer, mask, pack
from mlm_model import Recipe, loss_of, make_model, make_optimizers, rate_at
from numpy.typing import NDArray
from torch import Tensor

from mirror_rt.errors import ConfigError, MirrorError, TargetError, TrainingError
from mirror_rt.staging import check_target, contents, staging_file, staging_folder
from mirror_rt.training.encoding import multiplies_bf16
from mirror_rt.training.loop import pick_device

HELD_OUT_TEXTS = 500
DROPOUT = 0.1
"""Of the checkpoint, for those who train it further: Mirror needs it. BERT has the same."""


class Run:
    """One pre-training: its data, its model, its state on disk."""

    def __init__(
        self,
        corpus: Path,
        out: Path,
        recipe: Recipe,
        *,
        device: str = "cpu",
        resume: bool = False,
    ) -> None:
        """Make the vocabulary, rows and initial weights, or load them from an interrupted run.

        The trainer breaks ties at random, so the vocabulary is kept with the state.

        Raises:
            InputError: The corpus cannot be read.
            ConfigError: It is too small.
            TargetError: There is no state to load, or it belongs to another recipe or corpus.
        """
        self.out, self.device = out, pick_device(device)
        self.tokenizer = (
            self._kept_tokenizer() if resume else make_tokenizer(corpus, recipe.vocabulary)
        )
        size = self.tokenizer.get_vocab_size()
        self.recipe = recipe = replace(recipe, vocabulary=size)
        tokens, offsets = encode(corpus, self.tokenizer)
        order = np.random.default_rng(recipe.seed).permutation(len(offsets) - 1)
        held = order[:HELD_OUT_TEXTS]
        self.rows, self.pieces = pack(tokens, offsets, order[HELD_OUT_TEXTS:], recipe.length)
        ids, pieces = pack(tokens, offsets, held, recipe.length)
        self.held_out = (*mask(ids, size, np.random.default_rng(recipe.seed)), pieces)
        self.model = make_model(recipe, tokens).to(self.device)
        self.optimizers = make_optimizers(self.model, recipe)
        self.bf16 = multiplies_bf16(self.device.type)
        self.step, self.tokens_seen, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []
        self._recent: list[float] = []
        self.corpus_tokens = len(tokens)
        self.steps = self._load() if resume else 0

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a batch, on average."""
        return int((self.pieces > 0).sum() / max(1, len(self.rows) // self.recipe.rows))

    def _kept_tokenizer(self) -> Any:  # noqa: ANN401
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more specific
            raise TargetError(f"{self.folder}: cannot be read ({error}); start over") from error

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of a step; each pass has its own order and its own masks."""
        wanted = self.recipe.rows
        whole = max(1, len(self.rows) // wanted)
        turn, place = divmod(step, whole)
        order = np.random.default_rng((self.recipe.seed, turn)).permutation(len(self.rows))
        chosen = order[place * wanted : (place + 1) * wanted]
        draw = np.random.default_rng((self.recipe.seed, 1, step))
        seen, labels = mask(self.rows[chosen], self.recipe.vocabulary, draw)
        return self._put(seen, labels, self.pieces[chosen])

    def _put(self, *arrays: NDArray[Any]) -> tuple[Tensor, Tensor, Tensor]:
        first, second, third = (torch.from_numpy(a).to(self.device) for a in arrays)
        return first, second, third

    def one_step(self, steps: int) -> None:
        """Train one step of a run of ``steps``."""
        begun = time.perf_counter()
        rate = rate_at(self.step, steps, self.recipe)
        for optimizer, most in zip(
            self.optimizers, (self.recipe.muon_lr, self.recipe.lr), strict=True
        ):
            optimizer.param_groups[0]["lr"] = most * rate
        seen, labels, pieces = self._batch(self.step)
        self.model.train()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            loss, _ = loss_of(self.model, seen, labels, pieces)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"{self.out}: the loss is no number at step {self.step}; give lower --lr, --muon-lr"
            )
        self.step += 1
        self.tokens_seen += int((pieces > 0).sum())
        self.seconds += time.perf_counter() - begun
        self._recent.append(value)

    @torch.no_grad()
    def evaluate(self) -> tuple[float, float]:
        """Return the loss and the share predicted right, on texts that are never trained on."""
        self.model.eval()
        total = right = count = 0.0
        seen, labels, pieces = self.held_out
        for start in range(0, len(seen), self.recipe.rows):
            part = slice(start, start + self.recipe.rows)
            batch = self._put(seen[part], labels[part], pieces[part])
            said = int((batch[1] != UNPREDICTED).sum())
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
                loss, hits = loss_of(self.model, *batch)
            total, right, count = total + loss.item() * said, right + int(hits), count + said
        return total / count, right / count

    def note(self) -> dict[str, float]:
        """Evaluate, and return the new point of the history."""
        loss, accuracy = self.evaluate()
        self.history.append({
            "step": self.step, "tokens": self.tokens_seen, "seconds": round(self.seconds, 1),
            "loss": float(np.mean(self._recent)), "held_out": loss, "accuracy": accuracy,
        })  # fmt: skip
        self._recent = []
        return self.history[-1]

    # The state --------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The file with the state of an unfinished run."""
        return self.out.with_name(f"{self.out.name}.unfinished")

    def save(self, steps: int) -> None:
        """Write the state of the run completely or not at all; no pickle."""
        from safetensors.torch import save_file

        state = {
            f"{number}.{parameter}.{name}": value
            for number, optimizer in enumerate(self.optimizers)
            for parameter, values in optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        account = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "steps": steps,
            "tokens": self.tokens_seen,
            "seconds": self.seconds,
            "history": self.history,
            "corpus_tokens": self.corpus_tokens,
            "files": ["model.safetensors", "optimizer.safetensors", "tokenizer.json"],
        }
        with staging_folder(self.folder, force=True) as folder:
            save_file({k: v.clone() for k, v in self.model.state_dict().items()},
                      folder / "model.safetensors")  # fmt: skip
            save_file(state, folder / "optimizer.safetensors")
            self.tokenizer.save(str(folder / "tokenizer.json"))
            (folder / "state.json").write_text(json.dumps(account), encoding="utf-8")

    def _load(self) -> int:
        """Load the state, and return the planned number of steps of the run."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            account = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
            weights = load_file(self.folder / "model.safetensors")
            state = load_file(self.folder / "optimizer.safetensors")
            # The falling part is planned with the number of steps: both may differ when resumed.
            begun = (account["recipe"] | {"decay": self.recipe.decay}, account["corpus_tokens"])
            if begun != (asdict(self.recipe), self.corpus_tokens):
                raise TargetError(
                    f"{self.folder}: was begun with another recipe or corpus; start over"
                )
            self.model.load_state_dict(weights)
            kept: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
            for key, value in state.items():
                number, parameter, name = key.split(".")
                kept[int(number)].setdefault(int(parameter), {})[name] = value
            for optimizer, by_parameter in zip(self.optimizers, kept, strict=True):
                groups = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({"state": by_parameter, "param_groups": groups})
            self.step, self.tokens_seen = int(account["step"]), int(account["tokens"])
            self.seconds, self.history = float(account["seconds"]), list(account["history"])
            return int(account["steps"])
        except (OSError, ValueError, TypeError, LookupError, RuntimeError, SafetensorError) as e:
            why = " ".join(str(e).split())[:200]
            raise TargetError(f"{self.folder}: cannot be read ({why}); start over") from e

    def finish(self, record: dict[str, Any]) -> None:
        """Write the checkpoint: model, tokenizer and the record of the run."""
        from transformers import BertTokenizerFast

        self.model.config.hidden_dropout_prob = DROPOUT
        self.model.config.attention_probs_dropout_prob = DROPOUT
        with staging_folder(self.out) as folder:
            self.model.save_pretrained(folder)
            BertTokenizerFast(tokenizer_object=self.tokenizer).save_pretrained(folder)
            account = {"kind": "raw_mlm", **record, "files": contents(folder)}
            text = json.dumps(account, indent=1)
            (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(self.folder, ignore_errors=True)


def _plan(pre: Run, steps: int | None, minutes: float | None, most_tokens: int) -> int:
    """Return the number of steps of a run; without ``steps``, measure the speed of some first."""
    limit = max(1, most_tokens // pre.tokens_per_step)
    if steps is None and pre.steps and minutes is None:
        steps = pre.steps
    if steps is None and pre.step < limit:
        begun, first = time.perf_counter(), pre.step
        while pre.step < min(first + 20, limit):
            pre.one_step(limit)
        each = (time.perf_counter() - begun) / (pre.step - first)
        allowed = 60 if minutes is None else minutes
        steps = first + int(allowed * 60 * 0.9 / each)
    return max(pre.step, min(steps or 0, limit))


def _train(pre: Run, steps: int, *, save_every: int, tell: Callable[[str], None]) -> None:
    """Train to the last step; evaluate and save now and then."""
    while pre.step < steps:
        pre.one_step(steps)
        if pre.step % save_every == 0 and pre.step < steps:
            tell(json.dumps(pre.note()))
            pre.save(steps)
    if not pre.history or pre.history[-1]["step"] < pre.step:
        tell(json.dumps(pre.note()))
        pre.save(steps)


def run(
    corpus: Path,
    out: Path,
    recipe: Recipe,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    most_tokens: int = 200_000_000,
    resume: bool = False,
    save_every: int = 500,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda words: None,
) -> dict[str, Any]:
    """Pre-train, and return the record: recipe, losses, tokens, seconds.

    The number of steps is ``steps``, or what ``minutes`` allow at the speed of the first steps
    (of this call, so a resumed run is extended by that time), or ``most_tokens``, whichever comes
    first. A resumed run may have another number of steps and another ``decay``.

    Raises:
        MirrorError: As ``Run``; a state exists already, or there is none to resume; or the device
            fails.
    """
    recipe.check()
    for option, value in {"minutes": minutes, "steps": steps, "most-tokens": most_tokens,
                          "save-every": save_every}.items():  # fmt: skip
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{option} {value}: is not possible; give a number above 0")
    if out.exists():
        raise TargetError(f"{out}: exists already; choose another name or remove it")
    check_target(out, folder=True)
    unfinished = out.with_name(f"{out.name}.unfinished")
    if not resume and unfinished.exists():
        raise TargetError(f"{unfinished}: holds an unfinished run; give --resume, or remove it")
    pre = Run(corpus, out, recipe, device=device, resume=resume)
    tell(f"{len(pre.rows)} rows, {pre.tokens_per_step} tokens a step, bf16 {pre.bf16}")
    try:
        steps = _plan(pre, steps, minutes, most_tokens)
        tell(
            f"{steps} steps of {pre.tokens_per_step} tokens, from step {pre.step}; "
            f"the rate falls over the last {recipe.decay:.0%}"
        )
        _train(pre, steps, save_every=save_every, tell=tell)
    except RuntimeError as error:  # of torch: the device is gone, or its memory is full
        raise TrainingError(
            f"{pre.device}: failed at step {pre.step} ({str(error).splitlines()[0]}); "
            "give --resume, with another --device if need be"
        ) from error
    record = {
        "recipe": asdict(pre.recipe),
        "steps": steps,
        "tokens": pre.tokens_seen,
        "seconds": round(pre.seconds, 1),
        "bf16": pre.bf16,
        "history": pre.history,
    }
    pre.finish(record)
    return record


def main() -> int:
    """Run the script; return 1 if the input is at fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--most-tokens", type=int, default=200_000_000)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--record", type=Path, help="where the JSON record of the run is written")
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = vars(parser.parse_args())
    recipe = Recipe(**{name: given.pop(name) for name in asdict(Recipe())})
    threads, path = given.pop("threads"), given.pop("record")
    say = lambda words: print(words, file=sys.stderr, flush=True)  # noqa: E731
    try:
        if threads is not None:
            if threads < 1:
                raise ConfigError(f"--threads {threads}: is not possible; give 1 or more")
            torch.set_num_threads(threads)
        if path:
            check_target(path, force=True)  # before hours of work
            if path.is_dir():
                raise TargetError(f"{path}: is a folder; --record names a file")
        record = run(**given, recipe=recipe, tell=say)
        if path:
            whole = harness.provenance("raw_mlm") | {"machine": harness.machine()} | record
            with staging_file(path, force=True) as fresh:
                fresh.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        say("error: interrupted; give --resume to go on from the last saved state")
        return 130
    except (MirrorError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
