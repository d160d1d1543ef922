"""`folioscope config`, `models` and `doctor`: show a profile, its models, and whether everything is installed."""

import typer

from ui.cli.commands import command, group
from ui.cli.options import AsJson, Profile, ProfileName

app = group()
config = group("Show profiles and settings.")
models = group("List the models that a profile needs, and fetch them from the hub.")
app.add_typer(config, name="config")
app.add_typer(models, name="models")


@command(config, "folioscope config show --profile gpu-24gb", name="show")
def config_show(profile: Profile = "cpu", as_json: AsJson = False) -> None:
    """Print every setting of a profile, including the defaults, as YAML or JSON."""
    from configs.settings import load_profile

    settings = load_profile(profile).model_dump()
    if as_json:
        from ui.cli import terminal

        terminal.print_json(settings)
    else:
        import yaml

        print(yaml.safe_dump(settings, sort_keys=False), end="")


@command(config, "folioscope config profiles", name="profiles")
def config_profiles(as_json: AsJson = False) -> None:
    """List the profiles that ship with Folioscope."""
    from configs.settings import profile_names

    if as_json:
        from ui.cli import terminal

        terminal.print_json({"profiles": profile_names()})
        return
    for name in profile_names():
        print(name)


@command(models, "folioscope models list gpu-24gb", name="list")
def models_list(profile: ProfileName = "cpu", as_json: AsJson = False) -> None:
    """List the models that a profile needs, and show which of them are on this machine.

    In the JSON, is_local is true if the complete model is on this machine.
    """
    from configs.settings import load_profile
    from ui.cli.models import list_all

    list_all(load_profile(profile), profile, as_json)


@command(models, "folioscope models pull gpu-24gb", name="pull")
def models_pull(profile: ProfileName, as_json: AsJson = False) -> None:
    """Fetch the missing models of a profile from the hub, and print the revision of each."""
    from configs.settings import load_profile
    from ui.cli.models import pull

    pull(load_profile(profile), profile, as_json)


@command(app, "folioscope doctor --profile gpu-24gb")
def doctor(profile: Profile = "cpu", as_json: AsJson = False) -> None:
    """Check that everything that a profile needs is installed.

    In the JSON, the state of a check is ok, optional (not installed and not needed), none (no GPU), unknown, missing,
    or empty for a note on the check before. Exits with 3 if something is missing.
    """
    from configs.settings import load_profile
    from ui.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(load_profile(profile), profile, as_json))
