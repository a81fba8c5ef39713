# ruff: noqa: RUF001, SIM905
"""Turns macros of mdoc(7), which mark the meaning of words in manual pages, into text."""

import re

_AROUND = """Op [ ] Oo [ _ Oc _ ] Pq ( ) Po ( _ Pc _ ) Bq [ ] Bo [ _ Bc _ ] Brq { } Bro { _ Brc _ } Aq < >
    Ao < _ Ac _ > Dq “ ” Do “ _ Dc _ ” Sq ‘ ’ So ‘ _ Sc _ ’ Ql ‘ ’ Qq " " Qo " _ Qc _ " D1 _ _ Dl _ _
    Eq _ _""".split()
# The signs before and after the words that follow; macros that only close have no sign before.
AROUND = {
    name: (before.replace("_", ""), behind.replace("_", ""))
    for name, before, behind in zip(_AROUND[::3], _AROUND[1::3], _AROUND[2::3], strict=True)
}
WORDS = set(
    """Ad An Ar Cd Cm Dv Em Er Ev Fa Fd Fn Ft Ic In Li Lk Ms Mt No Nm Pa St Sx Sy Tn Va Vt Fl Xr Nd Lb Xo Xc
    Rs Re Eo Ec Rv Fo Fc Es En Fr Hf Ot Tg Ap Ns Pf %A %T %B %J %D %N %P %R %U %V %I %O %Q %C""".split()
)
NAMES = {"Bx": "BSD", "Fx": "FreeBSD", "Nx": "NetBSD", "Ox": "OpenBSD", "Dx": "DragonFly", "Ux": "UNIX"}
NAMES |= {"At": "AT&T UNIX", "Bsx": "BSD/OS", "Ta": "|"}
CLOSING = set(".,:;)]?!")


def arguments(rest: str) -> list[str]:
    """The arguments of a macro: words, or text in double quotes, in which two quotes stand for one."""
    rest = re.sub(r"(?<!\\)\\\".*", "", rest)
    matches = re.findall(r'"((?:[^"]|"")*)"?|((?:\\ |\S)+)', rest)
    return [quoted.replace('""', '"') if quoted or not word else word for quoted, word in matches]


class Words:
    """Converts macros inside the text; remembers the name that the page documents once it occurs."""

    def __init__(self) -> None:
        self.name = ""

    def of(self, macro: str, rest: str) -> str:
        """The text of a macro and its arguments, which may be macros; for an unknown macro, its arguments."""
        words = arguments(rest)
        if macro in WORDS or macro in AROUND or macro in NAMES:
            words.insert(0, macro)
        parts: list[str] = []
        closers: list[str] = []
        glue, dash = False, ""
        for place, word in enumerate(words):
            if word in AROUND:
                before, behind = AROUND[word]
                self._open(parts, before, behind, closers)
                glue, dash = bool(before), ""
            elif word in WORDS:
                dash = "-" if word == "Fl" else ""
                glue = glue or word in ("Ns", "Pf", "Ap")
                self._start(word, words, place, parts)
            elif word != "\\&":
                word = NAMES.get(word, dash + word)
                self.name = self.name or (word if words[0] == "Nm" else "")
                if (glue or word in CLOSING) and parts:
                    parts[-1] += word
                else:
                    parts.append(word)
                glue = False
        text = " ".join(part for part in parts if part)
        end = text[-1:] if text[-1:] in CLOSING and closers else ""
        return text.removesuffix(end) + "".join(reversed(closers)) + end

    @staticmethod
    def _open(parts: list[str], before: str, behind: str, closers: list[str]) -> None:
        if before:
            parts.append(before)
            closers.append(behind)
        elif behind and parts:
            parts[-1] += behind
        elif behind:
            parts.append(behind)

    def _start(self, macro: str, words: list[str], place: int, parts: list[str]) -> None:
        """Add the text that a macro puts before its words; some macros change their words."""
        following = words[place + 1 :]
        alone = not following or following[0] in CLOSING or following[0] in WORDS
        if macro == "Nm" and alone and self.name:
            parts.append(self.name)
        elif macro == "Fl" and alone:
            parts.append("-")
        elif macro == "Ar" and alone:
            parts.append("file ...")
        elif macro == "Ap" and parts:
            parts[-1] += "'"
        elif macro == "Nd":
            parts.append("—")
        elif macro == "Xr" and len(following) > 1:
            words[place + 1 : place + 3] = [f"{following[0]}({following[1]})", "\\&"]
        elif macro == "In" and following:
            words[place + 1] = f"#include <{following[0]}>"
        elif macro == "Fn" and following:
            parameters = [word for word in following[1:] if word not in CLOSING]
            words[place + 1 :] = [
                f"{following[0]}({', '.join(parameters)})",
                *following[1 + len(parameters) :],
            ]
