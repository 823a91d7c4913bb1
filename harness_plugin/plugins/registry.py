"""Find the installed plugins, load what they offer by name, explain what is broken."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pluggy

from harness_plugin._version import EXTRA_OF
from harness_plugin.errors import HarnessError, unknown
from harness_plugin.plugins import hookspecs
from harness_plugin.plugins.installed import Entry, entry_points

GROUP = "harness_plugin"
BLOCK = "HARNESS_PLUGIN_BLOCK"
STRICT = "HARNESS_PLUGIN_STRICT"
T = TypeVar("T")


@dataclass(frozen=True)
class Offer:
    """One registered name: where its object lives, what it is, who offered it."""

    kind: str
    name: str
    target: str
    summary: str
    plugin: str
    by_name_only: bool = False
    """An output that is written only where `--outputs` names it."""

    def load(self) -> object:
        """Import the module of `target` and return the attribute.

        Raises HarnessError naming the plugin when either does not exist.
        """
        module, _, attribute = self.target.partition(":")
        try:
            thing: object = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if getattr(error, "name", None) in EXTRA_OF:  # the plugin is whole, an extra is missing
                raise
            raise HarnessError(
                f"{self.kind} {self.name!r} of plugin {self.plugin!r} cannot be loaded from "
                f"{self.target!r}: {error}. Block it with {BLOCK}={self.plugin}."
            ) from error
        return thing

    def function(self) -> Callable[..., Any]:
        """The function; HarnessError naming the plugin for anything else."""
        thing = self.load()
        if not callable(thing):
            raise self.refusal(thing, "a function")
        return thing

    def refusal(self, thing: object, expected: str) -> HarnessError:
        """The error for a target that is something else."""
        return HarnessError(
            f"{self.kind} {self.name!r} of plugin {self.plugin!r}: {self.target} is {thing!r}; "
            f"expected {expected}."
        )

    def instance(self, kind: type[T]) -> T:
        """The object, a `kind`; HarnessError naming the plugin for anything else."""
        thing = self.load()
        if not isinstance(thing, kind):
            raise self.refusal(thing, f"a {kind.__module__}.{kind.__qualname__}")
        return thing

    def subclass(self, base: type[T]) -> type[T]:
        """The class, a `base`; HarnessError naming the plugin for anything else."""
        thing = self.load()
        if not (isinstance(thing, type) and issubclass(thing, base)):
            raise self.refusal(thing, f"a subclass of {base.__module__}.{base.__qualname__}")
        return thing


@dataclass(frozen=True)
class BrokenPlugin:
    """An entry point that did not load, and why."""

    name: str
    value: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return (
            f"skipped plugin {self.name} ({self.value}) from {self.distribution}: {self.reason}; "
            f"silence it with {BLOCK}={self.name}"
        )


@dataclass
class Registry:
    """The names of one kind, in the order of their names."""

    kind: str
    offers: dict[str, Offer] = field(default_factory=dict)

    def add(self, offer: Offer) -> None:
        """Keep `offer`; two of one name are an error that shows both."""
        if other := self.offers.get(offer.name):
            raise HarnessError(
                f"{self.kind} {offer.name!r} is registered twice: {other.target} by plugin "
                f"{other.plugin!r} and {offer.target} by plugin {offer.plugin!r}. "
                f"Block one with {BLOCK}=NAME."
            )
        self.offers[offer.name] = offer

    def offer(self, name: str) -> Offer:
        """The offer called `name`; HarnessError with near matches when there is none."""
        if name not in self.offers:
            raise unknown(CALLED.get(self.kind, self.kind), name, self.offers)
        return self.offers[name]

    def instances(self, kind: type[T]) -> dict[str, T]:
        """Every object by its name, imported now; errors as of `Offer.instance`."""
        return {offer.name: offer.instance(kind) for offer in self}

    def subclasses(self, base: type[T]) -> dict[str, type[T]]:
        """Every class by its name, imported now; errors as of `Offer.subclass`."""
        return {offer.name: offer.subclass(base) for offer in self}

    def __iter__(self) -> Iterator[Offer]:
        return iter(sorted(self.offers.values(), key=lambda offer: offer.name))

    def __contains__(self, name: str) -> bool:
        return name in self.offers


def make_manager() -> pluggy.PluginManager:
    """A manager that knows our hooks and has no plugins yet (tests start here)."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def load_installed(manager: pluggy.PluginManager) -> list[BrokenPlugin]:
    """Register every entry point of our group; return those that failed.

    One at a time, because the stock loader names neither plugin nor distribution when one of
    them raises. `HARNESS_PLUGIN_STRICT=1` raises instead of skipping.
    """
    for name in filter(None, os.environ.get(BLOCK, "").split(",")):
        manager.set_blocked(name.strip())  # before import: a blocked plugin never runs
    broken = []
    for entry in sorted(entry_points(GROUP), key=lambda entry: entry.name):
        if manager.is_blocked(entry.name):
            continue
        try:
            manager.register(entry.load(), name=entry.name)
            manager.check_pending()
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises
            if os.environ.get(STRICT):
                raise
            manager.unregister(name=entry.name)
            broken.append(describe(entry, error))
    return broken


def describe(entry: Entry, error: BaseException) -> BrokenPlugin:
    """The record of an entry point that raised `error` while loading."""
    return BrokenPlugin(entry.name, entry.value, entry.origin, f"{type(error).__name__}: {error}")


CALLED = {
    "bias_model": "bias model",
    "group_inference": "group inference",
}
"""Users' word for a kind, where that is not its name."""

KINDS = (
    "task",
    "backbone",
    "method",
    "bias_model",
    "group_inference",
    "distiller",
    "augmentation",
    "compressor",
    "remedy",
    "metric",
    "analysis",
    "output",
    "command",
)


PLURALS = {"remedy": "remedies", "analysis": "analyses"}


def hook_of(kind: str) -> str:
    """The hook that offers things of one kind."""
    return f"register_{PLURALS.get(kind, f'{kind}s')}"


@dataclass
class Plugins:
    """Everything the installed plugins offer, and the hooks to call at each moment of a run."""

    manager: pluggy.PluginManager
    broken: list[BrokenPlugin]
    registries: dict[str, Registry]

    @property
    def hook(self) -> pluggy.HookRelay:
        """The moments, called by keyword: `plugins.hook.run_started(config=config)`."""
        return self.manager.hook

    def __getitem__(self, kind: str) -> Registry:
        return self.registries[kind]


def collect(
    manager: pluggy.PluginManager,
    broken: list[BrokenPlugin] | None = None,
    kinds: Sequence[str] = KINDS,
) -> Plugins:
    """Ask every plugin of `manager` for its offers of some kinds.

    A plugin at a time, so that an offer knows who made it and a raising plugin is named.
    """
    broken = broken if broken is not None else []
    registries = {kind: Registry(kind) for kind in kinds}
    for name, plugin in sorted(manager.list_name_plugin(), key=lambda pair: pair[0]):
        if plugin is None:
            continue
        others = [p for n, p in manager.list_name_plugin() if p is not None and n != name]
        mine = {caller.name for caller in manager.get_hookcallers(plugin) or ()}
        for kind, registry in registries.items():
            if hook_of(kind) not in mine:
                continue

            def register(
                offered: str,
                target: str,
                *,
                summary: str,
                by_name_only: bool = False,
                registry: Registry = registry,
                plugin_name: str = name,
            ) -> None:
                registry.add(
                    Offer(registry.kind, offered, target, summary, plugin_name, by_name_only)
                )

            try:
                manager.subset_hook_caller(hook_of(kind), others)(register=register)
            except HarnessError:  # two of one name: leaving one out would be a silent choice
                raise
            except Exception as error:  # whatever a stranger's plugin raises
                if os.environ.get(STRICT):
                    raise
                skip(manager, registries, name)
                broken.append(describe(entry_of(name, plugin), error))
                break
    return Plugins(manager, broken, registries)


def skip(manager: pluggy.PluginManager, registries: Mapping[str, Registry], name: str) -> None:
    """Forget a plugin and what it has offered so far."""
    manager.unregister(name=name)
    for registry in registries.values():
        mine = [offer.name for offer in registry if offer.plugin == name]
        for offered in mine:
            del registry.offers[offered]


def entry_of(name: str, plugin: object) -> Entry:
    """The entry point a plugin came from; one without distribution for a plugin of a test."""
    entries = [entry for entry in entry_points(GROUP) if entry.name == name]
    return entries[0] if entries else Entry(name, getattr(plugin, "__name__", name))


def load_plugins(kinds: Sequence[str] = KINDS) -> Plugins:
    """The installed plugins and their offers of some kinds."""
    manager = make_manager()
    return collect(manager, load_installed(manager), kinds)
