"""A check of a loaded model by number: what its head is, and which cache gives the numbers that it gives without one.

Names do not tell: a model may scale its logits, keep a recurrent state beside its KV cache, or count positions itself. So a few short
rows are read in each way, and the ways that give other numbers are not used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from labkit.base.errors import LabError
from labkit.models.damage import not_finite, usable
from labkit.models.parts import CACHES, Traits, body_of, cached_pass, context_of, new_cache, own_head, vocabulary_of

LONG, SHORT, WIDE, FAR = 12, 7, 96, 240  # tokens of the rows that are read
STEEP = 100  # times the states of a row, for heads that bend
CLOSE, CLOSE_IN_HALF = 1e-3, 0.05  # the largest error that is rounding, in single and in half precision, in standard deviations
# The same of what is read with a cache; more if the model's own rounding is large. A cache that leaves something out differs by more.
CACHED, ABOVE = 5e-5, 8
LARGEST = 2_000_000_000  # parameters; models up to this size are checked in single precision, which takes as many bytes again


@torch.no_grad()
def examine(model: Any, tokens: Sequence[int] = ()) -> Traits:
    """Find how the lab must run a model, which stays as it is.

    tokens: text in the model's vocabulary, for the rows to read; others are drawn at random.

    Raises `LabError` for a model with damaged weights, one that sees later tokens, or one whose logits do not follow from its body's
    states.
    """
    training, kind = model.training, type(model).__name__
    model.eval()
    try:
        drawn = torch.randint(vocabulary_of(model), (LONG + SHORT,), generator=torch.Generator().manual_seed(0)).tolist()
        ids = [*tokens, *drawn][: LONG + SHORT]
        long, short = (torch.tensor([part], device=model.device) for part in (ids[:LONG], ids[LONG:]))
        if not bool(model.get_input_embeddings().weight.isfinite().all()):  # also in rows of tokens that few texts have
            raise not_finite(model, "the model")
        with _in_single(model):
            states, head = _head(model, long)
            traits = _cached(model, head, long, short, states[0])
        return traits if _runs(model, traits, long) else dataclasses.replace(traits, cache="none", padded=False, chunks=False)
    except LabError:
        raise
    except Exception as error:  # code of any family: it may need pictures, an encoder's states, or a package
        why = str(error).splitlines()[0] if str(error) else ""
        raise LabError(f"{kind} does not read a plain row of tokens ({type(error).__name__}: {why}): choose another model.") from error
    finally:
        vars(model).pop("traits", None)
        model.train(training)


def _runs(model: Any, traits: Traits, row: Tensor) -> bool:
    """Whether a model can read with its cache in its own precision: the code of some mixes precisions there."""
    model.traits = traits
    states = body_of(model)(row, use_cache=False).last_hidden_state[0]
    try:
        _in_turn(model, [row], [states], 1)
    except Exception:  # code of any family
        return False
    return True


@contextlib.contextmanager
def _in_single(model: Any) -> Iterator[None]:
    """Hold a model's weights in single precision for a while, since rounding to half precision could hide a small fault."""
    weights = [t for t in itertools.chain(model.parameters(), model.buffers()) if t.dtype in (torch.bfloat16, torch.float16)]
    if sum(t.numel() for t in weights) > LARGEST:
        weights = []
    kinds = [t.dtype for t in weights]
    for weight in weights:
        weight.data = weight.data.float()
    try:
        yield
    finally:
        for weight, kind in zip(weights, kinds, strict=True):
            weight.data = weight.data.to(kind)  # without loss: it came from there


@torch.no_grad()
def computes(model: Any, tokens: Sequence[int]) -> bool:
    """Whether a model's code runs in the precision of its weights. Some mixes precisions, and in a part that only longer rows reach."""
    try:
        body_of(model)(_wide(model, tokens), use_cache=False)
    except (MemoryError, torch.OutOfMemoryError):
        raise LabError(f"{type(model).__name__} does not fit into memory: free some, or choose a smaller model.") from None
    except Exception:  # of a model that fails in single precision as well, `examine` will speak
        return False
    return True


def _wide(model: Any, tokens: Sequence[int], most: int = WIDE) -> Tensor:
    """A longer row of these tokens, `(1, most)` or as long as the context."""
    size = int(min(most, context_of(model.config.to_dict())))
    return torch.tensor([[tokens[at % len(tokens)] for at in range(size)]], device=model.device)


def ensure(model: Any) -> None:
    """Check a model that was not loaded by `pretrained.load`, once. Raises `LabError` as `examine` does."""
    if not hasattr(model, "traits"):
        model.traits = examine(model)


@torch.no_grad()
def training_noise(model: Any, tokens: Sequence[int]) -> float:
    """How much a model's states differ in training mode, in standard deviations: 0 without dropout and router noise.

    Raises `LabError` for a model that does not read such a row in training mode.
    """
    read = torch.tensor([list(tokens)], device=model.device)
    training = model.training
    try:
        with torch.random.fork_rng(devices=[]):
            calm, noisy = (body_of(model.train(mode))(read, use_cache=False).last_hidden_state for mode in (False, True))
    except Exception as error:  # code of any family
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LabError(f"{type(model).__name__} cannot be trained on rows of any length ({why}): choose another student.") from error
    finally:
        model.train(training)
    return float(_errors(noisy, calm).max())


def _head(model: Any, tokens: Tensor) -> tuple[Tensor, str]:
    """The final states of a row, and which head gives the model's logits from them."""
    caught: dict[str, Any] = {}
    kind, base, prefix = type(model).__name__, model.base_model, model.base_model_prefix
    bodies = {"": base} if base is not model else {}
    bodies |= {name if base is model else f"{prefix}.{name}": part for name, part in base.named_children()}
    hooks = [part.register_forward_hook(lambda _, __, out, name=name: caught.update({name: out})) for name, part in bodies.items()]
    try:
        logits = model(tokens, use_cache=False).logits if _takes(model, "use_cache") else model(tokens).logits
    finally:
        for hook in hooks:
            hook.remove()
    found = {name: out.last_hidden_state for name, out in caught.items() if isinstance(getattr(out, "last_hidden_state", None), Tensor)}
    if not found:
        raise LabError(f"{kind} gives no final states beside its logits, which the lab needs: choose another causal language model.")
    model.body_path = min(found)  # "" is where `transformers` says that it is
    states = found[model.body_path]
    if not usable(logits):
        raise not_finite(model, "the model")
    given = logits.isfinite().all(0).all(0)  # some models mask a part of their vocabulary with -inf
    linear = model.get_output_embeddings()
    heads = {"linear": linear, "own": None if "." in model.body_path else functools.partial(own_head, model)}
    fitting = []
    for head, compute in heads.items():
        with contextlib.suppress(Exception):  # of code that was not written for this: then this is not the head
            if compute and (made := compute(states)).shape == logits.shape and _same(model, made[..., given], logits[..., given]):
                fitting.append(head)
    if len(fitting) == 2:  # a softcap is straight for small logits; so both are compared for large ones
        straight, bent = (compute(STEEP * states)[..., given] for compute in heads.values() if compute)
        fitting = fitting[:1] if _same(model, bent, straight) else fitting[1:]
    if fitting:
        return states, fitting[0]
    raise LabError(f"the logits of {kind} do not follow from its final states, which the lab trains on: choose another model.")


def _check_order(model: Any, tokens: Tensor, states_1_T_D: Tensor, stop: int) -> None:
    few_1_S_D = body_of(model)(tokens[:, :stop], use_cache=False).last_hidden_state
    if not _same(model, few_1_S_D, states_1_T_D[:, :stop]):
        raise LabError(
            f"in {type(model).__name__} the states of a token depend on those after it, so it is no causal language model as it is "
            "configured: set is_decoder in its config.json, or choose another model."
        )


def _cached(model: Any, head: str, long: Tensor, short: Tensor, long_T_D: Tensor) -> Traits:
    """The best way to read with a cache: of those that give a text the numbers that it has without one, the one that allows most.

    A model that sees later tokens fits none of them.
    """
    takes = _takes(body_of(model), "position_ids")
    name = next((name for name in ("past_key_values", "cache_params") if _takes(body_of(model), name)), "past_key_values")
    wanted = [long_T_D, body_of(model)(short, use_cache=False).last_hidden_state[0]]

    def right(read: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> bool:
        try:
            return all(_same(model, found, known, close) for found, known in read())
        except Exception:  # a cache that does not fit raises any error
            return False

    close = min(CLOSE, max(CACHED, ABOVE * _rounding(model, long, long_T_D)))
    best = Traits(head, "none", False, False, takes)
    for cache in CACHES:
        for positions in (True, False) if takes else (False,):
            model.traits = traits = Traits(head, cache, True, True, positions, name)
            if right(lambda: _in_turn(model, (long, short), wanted, 1)):
                padded = right(lambda: _in_a_batch(model, long, short, wanted))
                chunks = right(lambda: _in_turn(model, [long], wanted[:1], 3))
                found = dataclasses.replace(traits, padded=padded, chunks=chunks)
                if padded and found.chunks:
                    return found
                if best.cache == "none" or (found.padded, found.chunks) > (best.padded, best.chunks):
                    best = found
    if best.cache == "none":  # the whole text is then read for each token, so states must not change as it grows
        for stop in range(4, LONG):
            _check_order(model, long, long_T_D[None], stop)
        wide = _wide(model, long[0].tolist(), FAR)  # some code looks ahead, or draws at random, only beyond a number of tokens
        _check_order(model, wide, body_of(model)(wide, use_cache=False).last_hidden_state, wide.shape[1] * 2 // 3)
    return best


def _rounding(model: Any, long: Tensor, long_T_D: Tensor) -> float:
    """How much a row's states differ, without a cache, beside another row and without its last tokens, in standard deviations."""
    beside, before = (body_of(model)(part, use_cache=False).last_hidden_state for part in (torch.cat([long, long.flip(1)]), long[:, :-3]))
    return float(torch.cat([_errors(beside[0], long_T_D), _errors(before[0], long_T_D[:-3])]).max())


Pairs = list[tuple[Tensor, Tensor]]  # states that were found, and those without a cache, for the same tokens


def _in_turn(model: Any, rows: Sequence[Tensor], wanted: Sequence[Tensor], size: int) -> Pairs:
    """States of some rows, each read alone with a cache of its own: all but its last tokens, then these, `size` in a pass, twice. The rows
    take turns."""
    caches, states = [new_cache(model) for _ in rows], [list[Tensor]() for _ in rows]
    for step in range(3):
        for row, cache, found in zip(rows, caches, states, strict=True):
            start = 0 if not step else row.shape[1] - (3 - step) * size
            part = row[:, start : row.shape[1] - (2 - step) * size]
            at = torch.arange(start, start + part.shape[1], device=row.device)[None]
            found.append(cached_pass(model, part, cache, position_B_T=at)[0])
    return [pair for found, known in zip(states, wanted, strict=True) for pair in _halves(found, known)]


def _halves(found: Sequence[Tensor], known_T_D: Tensor) -> Pairs:
    """The first pass and the later ones apart, since most tokens are in the first."""
    first = len(found[0])
    return [(found[0], known_T_D[:first]), (torch.cat(list(found[1:])), known_T_D[first:])]


def _in_a_batch(model: Any, long: Tensor, short: Tensor, wanted: Sequence[Tensor]) -> Pairs:
    """States of both rows, read together with padding on the left, the last two tokens one by one; the long row leaves before the last."""
    before, (long_T_D, short_T_D) = LONG - SHORT, wanted
    tokens = torch.cat([long, torch.cat([short.new_zeros(1, before), short], 1)])
    visible = torch.ones_like(tokens)
    visible[1, :before] = 0
    position = (visible.cumsum(1) - 1).clamp(min=0)
    cache = new_cache(model)
    first_B_T_D = cached_pass(model, tokens[:, :-2], cache, visible[:, :-2], position[:, :-2])
    next_B_1_D = cached_pass(model, tokens[:, -2:-1], cache, visible[:, :-1], position[:, -2:-1])
    cache.reorder_cache(torch.tensor([1], device=long.device))
    last_1_1_D = cached_pass(model, tokens[1:, -1:], cache, visible[1:], position[1:, -1:])
    return [
        (first_B_T_D[0], long_T_D[:-2]),
        (first_B_T_D[1, before:], short_T_D[:-2]),
        (torch.cat([next_B_1_D[:, 0], last_1_1_D[0]]), torch.stack([long_T_D[-2], short_T_D[-2], short_T_D[-1]])),
    ]


def _errors(found_T_D: Tensor, wanted_T_D: Tensor) -> Tensor:
    """Root mean square of the difference at each token, in standard deviations."""
    return (found_T_D.float() - wanted_T_D.float()).square().mean(-1).sqrt() / wanted_T_D.float().std().clamp(min=1e-12)


def _same(model: Any, found_T_D: Tensor, wanted_T_D: Tensor, close: float = CLOSE) -> bool:
    """Whether two results differ by rounding alone. In half precision that can send single tokens to other experts, so most must agree."""
    errors = _errors(found_T_D, wanted_T_D)
    if model.dtype in (torch.float32, torch.float64):
        return float(errors.max()) < close
    return float(errors.median()) < CLOSE_IN_HALF


def _takes(module: Any, name: str) -> bool:
    """Whether a module's `forward` has a parameter of this name."""
    return name in inspect.signature(module.forward).parameters
