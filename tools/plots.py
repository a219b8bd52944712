"""dvc_plots/index.html that needs no network, by `make plots`: `dvc plots show` alone loads its scripts from a CDN."""

import subprocess
from pathlib import Path

import vl_convert

TEMPLATE = Path("work/plots.html")
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Plots of DVC</title>
<script>
%s
</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""
"""Without DVC's `{scripts}`, the links to the CDN."""


def main() -> None:
    """Write the template, and the page by `dvc plots show`."""
    # DVC's own plots are written for Vega-Lite 5; this is the last of them that the package has.
    script = vl_convert.javascript_bundle(vl_version="5.21")
    assert "</script" not in script.lower(), "the bundle would end its own element"
    TEMPLATE.parent.mkdir(exist_ok=True)
    TEMPLATE.write_text(PAGE % script, encoding="utf-8")
    subprocess.run(["dvc", "plots", "show", "--html-template", TEMPLATE, "--out", "dvc_plots"], check=True)


if __name__ == "__main__":
    main()
