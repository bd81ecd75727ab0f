"""Shows a docstring's ``:class:`~plausible.Run``` as the name, linked if it is here."""

import re
from typing import Any

ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):<code>(~?)([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Replace the roles of one page."""
    anchors = re.findall(r'id="(plausible\.[\w.]+)"', html)

    def shown(match: re.Match[str]) -> str:
        name = match[2].rpartition(".")[2] if match[1] else match[2]
        end = f".{match[2].removeprefix('plausible.')}"
        found = [
            anchor for anchor in anchors if anchor == match[2] or anchor.endswith(end)
        ]
        code = f"<code>{name}</code>"
        return f'<a href="#{found[0]}">{code}</a>' if len(found) == 1 else code

    return ROLE.sub(shown, html)
