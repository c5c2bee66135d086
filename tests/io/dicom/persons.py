"""Made-up people of many languages, how others write their names, and what is not their name.

Spellings are typed by hand: they come from no table of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What a label says in a clinic; no one below is called so.
CLINICAL = (
    "Liver", "Bone", "Left kidney", "GTV 60 Gy", "Segment 4", "T12", "L4/5", "Boundary", "PTV_1",
    "Lymph node", "gross tumor volume", "S3", "Lunge links", "foie droit", "Ηπαρ", "Печень", "肝臓",
    "Marrow 3", "2.5 mm", "Nasal cavity", "Xiphoid", "Milz", "Coeur", "aorta (arch)",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """A patient.

    Attributes:
        name: PatientName.
        spellings: texts that name the patient.
        charset: SpecificCharacterSet.
        harmless: texts that look like the name and are kept, beside ``CLINICAL``.
    """

    name: str
    spellings: tuple[str, ...]
    charset: Any = "ISO_IR 192"
    harmless: tuple[str, ...] = ()


PEOPLE = {
    "short": Person(
        "Xu^Bo",
        ("GTV Bo Xu", "XuBo", "GTVXu1", "Bo_Xu", "xubo", "boxu", "BXu", "X.B.", "B. X.", "ＸＵ",
         "GTV-xu", "XU", "xu-bo liver", "(Bo)", "GTVXU", "ptvbo", "X.B"),
        "ISO_IR 6",
        ("Box", "BX", "Xbox", "Boost", "GTVbone", "X. Body"),
    ),
    "umlaut": Person(
        "Müller^Jörg",
        ("GTV Mueller", "Muller rest", "MÜLLER", "MUELLER", "GTVMueller", "Joerg", "JORG",
         "Mu\u0308ller", "jmueller", "Mül\u00adler", "MÃ¼ller", "Tumor-Müller 2", "J. Müller"),
        "ISO_IR 100",
        ("Mull", "Mild", "Muscle"),
    ),
    "without-umlaut": Person(
        "MUELLER^JOERG", ("Müller", "Muller", "Jörg", "GTVMüller"), "ISO_IR 6"
    ),
    "sharp": Person("Weiß^Strauß", ("Weiss", "STRAUSS", "Straus links", "WEIß"), "ISO_IR 100"),
    "particles": Person(
        "van der Berg^Jan Hendrik^^Dr.",
        ("Berg", "vdBerg", "VanderBerg", "Jan", "JanHendrik", "hendrikberg", "J.H.B."),
        "ISO_IR 6",
        ("van", "der", "Dr", "Bergamot"),
    ),
    "polish": Person("Wałęsa^Łukasz", ("Walesa", "WAŁĘSA", "Lukasz", "GTV_lukasz"), "ISO_IR 101"),
    "czech": Person("Dvořák^Jiří", ("Dvorak", "DVORAK GTV", "Jiri"), "ISO_IR 101"),
    "danish": Person(
        "Sørensen^Åse Ærø", ("Soerensen", "Sorensen", "Aase", "Ase", "Aeroe"), "ISO_IR 100"
    ),
    "turkish": Person(
        "Yıldız^İpek Ağaoğlu", ("Yildiz", "YILDIZ", "ipek", "IPEK", "Agaoglu"), "ISO_IR 148"
    ),
    "french": Person(
        "Béchamel^François", ("Bechamel", "BÉCHAMEL", "Francois", "francoisb"), "ISO_IR 100"
    ),
    "irish": Person(
        "O'Brien^Séan", ("OBrien", "O’Brien", "Brien", "Sean", "o brien"), "ISO_IR 100"
    ),
    "vietnamese": Person("Nguyễn^Văn Đức", ("Nguyen", "NGUYEN", "Duc", "nguyenvanduc")),
    "greek": Person(
        "Παπαδόπουλος^Γιώργος",
        ("Papadopoulos", "Papadopulos", "παπαδοπουλος", "ΠΑΠΑΔΌΠΟΥΛΟΣ", "Giorgos", "Yiorgos"),
        "ISO_IR 126",
        ("Παπ",),
    ),
    "greek-latin": Person("Papadopoulos^Giorgos", ("Παπαδόπουλος", "ΠΑΠΑΔΟΠΟΥΛΟΣ", "Γιώργος")),
    "cyrillic": Person(
        "Жуков^Юрий^Ильич",
        ("Zhukov", "Schukow", "Žukov", "Joukov", "Yuri", "Jurij", "ЖУКОВА", "опухоль Жукова",
         "Ж.Ю."),
        "ISO_IR 144",
    ),
    "cyrillic-latin": Person("Zhukov^Yuri", ("Жуков", "Юрий", "ЖУКОВА")),
    "chinese": Person(
        "Wang^XiaoDong=王^小东",
        ("小东", "王小东", "GTV王", "GTV 王", "Xiao Dong", "WangXD", "Wáng", "肝王小东左"),
        "GB18030",
        ("王冠",),
    ),
    "japanese": Person(
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ("Taro", "Tarō", "ヤマダ", "ﾔﾏﾀﾞ", "山田", "山田様", "タロウ", "YAMADA"),
        ["", "ISO 2022 IR 87"],
    ),
    "korean": Person(
        "Kim^Hee-Jung=金^熙中=김^희중",
        ("HeeJung", "heejung", "Hee Jung", "Kim", "김희중", "희중", "熙中"),
        ["", "ISO 2022 IR 149"],
    ),
    "arabic": Person("قباني^لنزار", ("لنزار", "قَبَّاني", "GTV قباني"), "ISO_IR 127"),
    "hebrew": Person("שרון^דבורה", ("שרון", "דבורה", "GTV שרון"), "ISO_IR 138"),
    "as-a-side": Person(
        "Left^Olga", ("Left kidney", "OLGA"), "ISO_IR 6", ("Cleft", "Right kidney")
    ),
}  # fmt: skip

# The study date of every object of :mod:`build` is 2 January 2020; here it is a day above 12.
DAY = "20210314"
DATES = (
    "GTV_20210314", "Plan 14.03.2021 liver", "2021-03-14", "14.3.21", "3/14/21", "14/3/2021",
    "14 Mar 2021", "14. März 2021", "2021年3月14日", "14/3", "14.3.", "14mar21", "March 14th, 2021",
    "14 de marzo de 2021", "14 марта 2021", "14 Μαρτίου 2021", "Mar 2021", "03/2021", "2021-03",
    "20210314101112", "210314", "140321", "031421", "令和3年3月14日", "二〇二一年三月十四日",
    "14.III.2021", "2021073", "2021-W10", "1615713072", "2021_3_14", "14 – 3 – 2021",
    "３月１４日", "2021/03/14 10:11", "1420210314", "١٤/٣/٢٠٢١", "14-Mar", "Sun 14 mars",
    "2021:03:14", "14|03|2021", "2021.3.14.",
)  # fmt: skip
NO_DATES = ("3.14", "14.3 Gy", "V1.2.3", "PTV 2021", "Mar", "S14", "3 of 14", "L3/4", "14")

IDENTIFIER = "HOSP-0778812"
NUMBERS = (
    "778812", "P778812", "0778812", "000778812", "778 812", "778.812", "77-88-12", "HOSP0778812",
    "hosp_0778812", "GTV 778,812", "７７８８１２", "٧٧٨٨١٢", "x778812y",
)  # fmt: skip
NO_NUMBERS = ("7788123", "1778812", "77881", "HOSP", "0812")

BORN = "19410527"
BIRTHS = ("27.5.41", "Born 27.05.1941", "5/27/41", "19410527", "27 May 1941", "410527", "270541")
