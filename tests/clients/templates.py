"""The templates in docs/ci: what CI systems and shells would refuse, and commands that this weft does not know."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

TEMPLATES = Path(__file__).parents[2] / "docs" / "ci"


def scripts() -> dict[str, list[str]]:
    github = yaml.safe_load((TEMPLATES / "github.yml").read_text())
    # YAML 1.1 reads the key `on` as true.
    assert set(github) >= {"name", True, "jobs"}, github.keys()
    steps = [step for job in github["jobs"].values() for step in job["steps"]]
    assert all(("run" in step) != ("uses" in step) for step in steps), steps
    gitlab = yaml.safe_load((TEMPLATES / "gitlab.yml").read_text())
    jobs = [job for job in gitlab.values() if "script" in job]
    jenkins = (TEMPLATES / "Jenkinsfile").read_text()
    assert jenkins.count("{") == jenkins.count("}"), "braces of the Jenkinsfile"
    return {
        # GitHub puts its own expressions in before a shell sees them.
        "github": [re.sub(r"\$\{\{.*?\}\}", "x", step["run"]) for step in steps if "run" in step],
        "gitlab": [line for job in jobs for line in job.get("before_script", []) + job["script"]],
        "jenkins": re.findall(r"sh '''(.*?)'''", jenkins, re.S) + re.findall(r"sh '([^'\n]+)'", jenkins),
    }


def main(weft: str) -> None:
    for name, found in scripts().items():
        asked = 0
        for script in found:
            subprocess.run(["sh", "-n"], input=script, text=True, check=True)
            for command in re.findall(r"(?:^|[\s;])(?:weft/bin/)?weft (bench [^;\n]*)", script):
                asked += 1
                words = command.replace('"', "").split()
                # Help comes last, so that what stands before it has been read.
                done = subprocess.run([weft, *words, "--help"], capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{name}: weft {command}: {done.stderr}"
        assert asked >= 2, f"{name} measures and compares: {found}"


if __name__ == "__main__":
    main(sys.argv[1])
