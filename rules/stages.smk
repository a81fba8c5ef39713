# Completes the rules of all stages by their names: the command, the digest of its code, and a file for its timings.
#
# A rule whose shell line is STAGE runs scripts/{rule}.py (or that of SCRIPT_OF). The names of its inputs, outputs and
# params are the parameters of the script's function; wildcards and `threads` are passed if the function names them.
# A job only waits for an input without a name. A rule that asks for no `runtime` runs on the submit host.
import functools

from snakemake.common import get_function_params, overwrite_function_params

from cpt import stage
from cpt.digest import code_digest, settings_digest

# Params of a rule with LAUNCHED_STAGE that go to scripts/launch.py, not to its stage.
LAUNCHER_PARAMS = ("processes", "nodes", "cpus")


def finish(declared):
    """Turn a rule's params into options after the command and its files; add digest, message and timings."""
    script = Path(SCRIPT_OF.get(declared.name, SCRIPTS / f"{declared.name}.py"))
    settings = dict(declared.params.items())
    launched = declared.shellcmd == LAUNCHED_STAGE
    launch = {name: settings.pop(name) for name in LAUNCHER_PARAMS} if launched else {}
    names = {"input": declared.input.keys(), "output": declared.output.keys(), "params": settings}
    names["wildcards"] = [*declared.wildcard_names, "threads"]
    try:
        stage.check_names(declared.name, script, names)
    except UserError as error:
        raise WorkflowError(str(error))
    option_names = {name for place in ("input", "output", "params") for name in names[place]}
    for name in stage.parameters(script):
        if name not in option_names and name == "threads":
            settings[name] = lambda wildcards, threads: threads
        elif name not in option_names and name in declared.wildcard_names:
            settings[name] = lambda wildcards, name=name: wildcards[name]
    scripts = (script, *STARTS.get(declared.name, ()))
    read = tuple(str(file) for file in declared.input if str(file) in PROJECT_FILES)
    settings["code"] = lambda wildcards: code(scripts, read)  # computed only if a job needs it
    if launched:
        launch["device"] = settings["device"]
    declared._params = type(declared.params)()
    declared.set_params(
        interpreter=python(script, launched),
        **{f"launch_{name}": setting_option(name, value) for name, value in launch.items()},
        command=command_of(script),
        **{name: setting_option(name, value) for name, value in settings.items()},
    )
    resources = (declared.ruleinfo.resources or ((), {}))[1]
    for function in filter(callable, [*declared.params, *resources.values()]):
        overwrite_function_params(function, get_function_params(function))  # or Snakemake looks in each job
    log = str(declared.log[0])
    about = ", ".join(f"{{wildcards.{name}}}" for name in re.findall(r"{([a-z]\w*)", log))
    declared.message = declared.message or declared.name.replace("_", " ") + (f": {about}" if about else "")
    if declared.output and "measured" not in settings:  # a stage that sums up the timings has none
        declared.benchmark_modifier = declared.log_modifier
        declared.benchmark = f"{R}/timings/{log.removeprefix(f'{R}/logs/').removesuffix('.log')}.tsv"
    if "runtime" not in resources:
        workflow.localrules(declared.name)


@functools.cache
def code(scripts, files):
    """Returns the digest of all code that scripts reach, and of the project's files that they read: a change of
    them reruns the rule; comments in the code and a fresh clone's time stamps (`ancient`) don't."""
    digests = [code_digest(script) for script in scripts]
    contents = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
    return settings_digest([*digests, *contents])


def python(script, launched):
    """Returns what runs a script: Python, with the library's path for scripts elsewhere, and the launcher if needed."""
    path = "" if script.parent == SCRIPTS else f"PYTHONPATH={shlex.quote(str(SCRIPTS))} "
    launcher = f" {shlex.quote(str(SCRIPTS / 'launch.py'))}" if launched else ""
    return lambda wildcards: Untracked(f"{path}{PYTHON}{launcher}")


def command_of(script):
    """Returns the script and its files as a param that Snakemake doesn't compare: it compares the files."""

    def command(wildcards, input, output):
        files = {name: value for files in (input, output) for name, value in files.items()}
        options = [stage.option(name, files[name]) for name in stage.parameters(script) if name in files]
        return " ".join([shlex.quote(str(script)), *options])

    return command


def setting_option(name, value):
    """Returns a function that makes a param into an option; a param that is a function is called first."""
    if not callable(value):  # still returns a function, or Snakemake would look for wildcards in the text
        text = functools.cache(functools.partial(option_text, name, value))
        return lambda wildcards: text()

    @functools.wraps(value)
    def evaluated(*arguments, **named):
        return option_text(name, value(*arguments, **named))

    return evaluated


def option_text(name, value):
    """Returns an option's text; that of an Untracked is made when the job starts, and never compared."""
    if isinstance(value, Untracked):
        return Untracked(lambda: stage.option(name, value.now()))
    return stage.option(name, value)


for declared in workflow.rules:
    if declared.shellcmd and STAGE in declared.shellcmd:
        finish(declared)
