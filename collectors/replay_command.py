"""The verb `replay`: record saved weights as a run."""

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from collectors.archive import AllowPickle, pairs, plain_value
from inpca.cli.services import say
from inpca.errors import InputError


def named_object(name: str, option: str) -> Any:
    """What ``package.module:function`` names; modules in the working directory count.

    Raises
    ------
    InputError
        If the text has another form, there is no such module, or nothing of that name in it.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise InputError(f"`{option}` must be package.module:function, not {name!r}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"`{option}` {name!r} cannot be imported ({error}); modules are looked for in the "
            "working directory and among installed packages."
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"`{option}`: {module} has no {attribute!r}; check the name.")
        found = getattr(found, part)
    return found


def register(app: typer.Typer) -> None:
    """Add the verb `replay` to the command line."""

    @app.command()
    def replay(
        checkpoints: Annotated[
            str, typer.Argument(help="a pattern for the files, in quotes: 'weights/*.pt'")
        ],
        ensemble: Annotated[
            Path, typer.Argument(help="the ensemble's folder; created if there is none")
        ],
        run: Annotated[str, typer.Option(help="id of the run")],
        factory: Annotated[
            str, typer.Option(help="package.module:function that makes the network")
        ],
        data: Annotated[
            str,
            typer.Option(
                help="package.module:function that gives the sample sets: name → loader in fixed "
                "order"
            ),
        ],
        config: Annotated[
            list[str] | None, typer.Option("--config", "-c", help="key=value, a column; repeatable")
        ] = None,
        step_pattern: Annotated[
            str,
            typer.Option(
                help="regular expression whose group is the step, as 'step=(\\d+)'; default: what "
                "names or files say is the step, else the only number that differs"
            ),
        ] = "",
        batches_per_epoch: Annotated[
            int, typer.Option(min=0, help="gives epochs; 0: epochs are unknown")
        ] = 0,
        key: Annotated[
            str, typer.Option(help="where in a file the weights are, such as state_dict")
        ] = "",
        prefix: Annotated[
            str, typer.Option(help="what names of weights begin with in the files alone")
        ] = "",
        device: Annotated[str, typer.Option(help="where to run, in torch's words")] = "cpu",
        check_inputs: Annotated[
            bool, typer.Option(help="refuse inputs that are random, or not those of other runs")
        ] = True,
        allow_pickle: AllowPickle = False,
        restart: Annotated[
            bool, typer.Option("--restart", help="replace the run if it exists")
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="no progress on standard error")
        ] = False,
    ) -> None:
        """Run every saved checkpoint through its network and record it; goes on where it ended.

        Prints how many checkpoints it recorded. Needs torch.
        """
        settings = pairs(config or [], "--config")
        make, loaders = named_object(factory, "--factory"), named_object(data, "--data")
        from collectors.checkpoints import replay as replay_files
        from collectors.checkpoints import step_by_pattern

        recorded = replay_files(
            checkpoints,
            ensemble,
            run,
            make,
            loaders(),
            config={name: plain_value(value) for name, value in settings.items()},
            step=step_by_pattern(step_pattern) if step_pattern else None,
            batches_per_epoch=batches_per_epoch or None,
            key=key or None,
            prefix=prefix,
            device=device,
            check_inputs=check_inputs,
            allow_pickle=allow_pickle,
            restart=restart,
            progress=not quiet,
        )
        say(recorded)
