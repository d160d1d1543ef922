"""A French safety manual: Manuel de sécurité of an invented glassworks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reportlab.graphics.shapes import Drawing, Line, Polygon, Rect, String
from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4

from samples.make import charts
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper()
LOOK = Look("#b3541e", PAPER.width, size=10.6)
h1, h2, note, table = LOOK.h1, LOOK.h2, LOOK.note, LOOK.table


def furniture(canvas: Any, number: int, pages: int) -> None:
    canvas.setFillColor(HexColor("#b3541e"))
    canvas.rect(62, A4[1] - 44, A4[0] - 124, 3, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#444444"))
    canvas.setFont("Helvetica", 8)
    canvas.drawString(62, A4[1] - 36, "Verrerie de Montclair – Manuel de sécurité")
    canvas.drawRightString(A4[0] - 62, A4[1] - 36, "MS-04, édition de janvier 2024")
    canvas.drawRightString(A4[0] - 62, 34, f"Page {number} sur {pages}")


def plan() -> Any:
    """The floor plan with exits and the assembly point."""
    drawing = Drawing(LOOK.width, 215)
    rooms = (("Halle des fours", 10, 70, 170, 130), ("Atelier de taille", 180, 125, 140, 75),
             ("Magasin", 180, 70, 140, 55),
             ("Bureaux", 320, 140, 110, 60), ("Local gaz", 320, 70, 110, 70))  # fmt: skip
    for name, x, y, w, h in rooms:
        drawing.add(
            Rect(x, y, w, h, fillColor=HexColor("#f6efe8"), strokeColor=HexColor("#444444"), strokeWidth=1.4)
        )
        drawing.add(String(x + w / 2, y + h / 2 - 3, name, fontSize=9, textAnchor="middle"))
    for label, x, y in (("S1", 60, 64), ("S2", 245, 64), ("S3", 250, 194), ("S4", 424, 165)):
        drawing.add(Rect(x, y, 24, 13, fillColor=HexColor("#2e7d4f"), strokeColor=None))
        drawing.add(
            String(
                x + 12,
                y + 3.5,
                label,
                fontSize=8,
                fillColor=white,
                textAnchor="middle",
                fontName="Helvetica-Bold",
            )
        )
    drawing.add(Polygon([95, 8, 125, 8, 110, 36], fillColor=HexColor("#2e7d4f"), strokeColor=None))
    drawing.add(String(132, 16, "Point de rassemblement A : parking nord", fontSize=9))
    drawing.add(Line(72, 62, 105, 38, strokeColor=HexColor("#2e7d4f"), strokeWidth=1.5))
    drawing.add(Line(257, 62, 122, 36, strokeColor=HexColor("#2e7d4f"), strokeWidth=1.5))
    drawing.add(String(335, 52, "Local gaz : aucune sortie", fontSize=8.5, fillColor=HexColor("#b3261e")))
    return drawing


def write(folder: Path) -> Path:
    path = folder / "montclair-manuel-securite.pdf"
    pages: list[list[Flowable]] = [
        [
            LOOK.gap(30), h1("Manuel de sécurité", 28),
            h2("Halle des fours, atelier de taille et magasin", 15), LOOK.gap(10),
            *LOOK.ps(
                "Ce manuel s'adresse à toute personne qui travaille à la Verrerie de Montclair, y compris "
                "les intérimaires et les stagiaires. Les visiteurs "
                "reçoivent une fiche à part. Chacun signe le manuel avant sa première journée dans la "
                "halle des fours.",
                "Le manuel ne s'applique pas au laboratoire, qui a ses propres règles (MS-07)."),
            h2("Qui fait quoi"),
            table([["Fonction", "Nom", "Poste"],
                   ["Responsable de la sécurité", "Mathilde Courvoisier", "4412"],
                   ["Chef de la halle des fours", "Bruno Esteban", "4420"],
                   ["Infirmerie, de 6 h à 20 h", "Nadège Thibault", "4400"],
                   ["Numéro interne en cas d'incendie", "", "18 18"]], [2.4, 2, 1], left=(0, 1)),
            h2("Accidents avec arrêt, par an"),
            charts.bars(["2018", "2019", "2020", "2021", "2022", "2023"],
                        {"Brûlures": [7, 6, 4, 5, 3, 2], "Coupures": [9, 11, 8, 6, 7, 4]}, LOOK.width, 175,
                        colours=("#b3541e", "#56707f")),
            *LOOK.ps("En 2023, six accidents ont entraîné un arrêt de travail, soit le nombre le plus bas "
                     "depuis l'ouverture. Aucun n'a laissé de séquelles."),
        ],
        [
            h1("Équipements de protection"),
            *LOOK.ps("Les équipements sont fournis par l'entreprise. Ils ne doivent pas être emportés à la "
                     "maison, sauf les chaussures."),
            table([["Zone", "Lunettes", "Gants", "Oreilles", "Vêtements", "Chaussures"],
                   ["Halle des fours", "teinte 5", "cuir, 500 °C", "oui", "coton ignifugé", "S3"],
                   ["Atelier de taille", "claires", "anti-coupure, niveau E", "oui", "tablier", "S2"],
                   ["Magasin", "non exigées", "anti-coupure, niveau C", "non", "gilet orange", "S1P"],
                   ["Local gaz", "claires", "non exigés", "non", "antistatiques", "S3"]],
                  [1.3, 1, 1.5, 0.8, 1.2, 1.1], left=(0, 1, 2, 3, 4, 5), pad=5),
            h2("Ce qui est interdit"),
            *LOOK.bullets([
                "Porter des vêtements en fibres synthétiques dans la halle des fours, même sous le coton.",
                "Porter des lentilles de contact à moins de quatre mètres d'un four ouvert.",
                "Porter des gants à la meule. C'est la seule machine de l'atelier où ils sont interdits.",
                "Entrer dans le local gaz avec un téléphone, sauf s'il porte le marquage ATEX.",
                "Travailler seul à un four, à moins qu'un collègue ne soit à portée de voix.",
            ]),
            h2("Durée de vie"),
            table([["Équipement", "Remplacement"],
                   ["Gants de cuir", "tous les 3 mois, ou dès la première fissure"],
                   ["Bouchons d'oreilles moulés", "tous les 4 ans"],
                   ["Lunettes teintées", "tous les 2 ans"], ["Vêtements ignifugés", "après 50 lavages"]],
                   [1.6, 2.6], left=(0, 1)),
            note("Les lavages sont comptés par la blanchisserie au moyen d'une puce ; il ne faut donc pas "
                 "laver soi-même."),
        ],
        [
            h1("Travail aux fours"),
            table([["Four", "Usage", "Température normale", "Arrêt automatique à", "Dernière révision"],
                   ["F1", "fusion", "1 420 °C", "1 480 °C", "mars 2023"],
                   ["F2", "fusion", "1 380 °C", "1 450 °C", "novembre 2023"],
                   ["F3", "recuisson", "560 °C", "620 °C", "juin 2022"],
                   ["F4", "réchauffage", "1 150 °C", "1 230 °C", "septembre 2023"]],
                  [0.6, 1.2, 1.5, 1.5, 1.4], left=(0, 1, 4), pad=5),
            *LOOK.ps("La révision a lieu tous les dix-huit mois. Le four F3 a dépassé cette durée ; il "
                     "peut être utilisé jusqu'au 31 mars 2024 à condition que la "
                     "température soit relevée à la main toutes les deux heures."),
            h2("Mise en route"),
            *LOOK.bullets([
                "Ouvrir la ventilation au moins 15 minutes avant le gaz.",
                "Vérifier que la pression du gaz est comprise entre 280 et 320 mbar.",
                "Monter de 90 °C par heure au plus jusqu'à 600 °C, puis de 150 °C par heure.",
                "Ne pas charger de verre avant que le voyant vert soit allumé depuis dix minutes."]),
            h2("En cas de fuite de gaz"),
            *LOOK.bullets([
                "Fermer la vanne jaune près de la porte S1. Ne toucher à aucun interrupteur, pas même pour "
                "éteindre.",
                "Évacuer par S1 ou S2. Ne pas prendre S3, dont le couloir passe devant le local gaz.",
                "Appeler le 18 18 depuis l'extérieur seulement.",
                "Ne rentrer que lorsque les pompiers l'autorisent ; le chef de halle ne peut pas "
                "l'autoriser."]),
            h2("Pauses par forte chaleur"),
            *LOOK.ps("Au-delà de 35 °C au poste, une pause de dix minutes par heure est obligatoire. "
                     "Au-delà de 40 °C, elle est de vingt minutes, et le travail "
                     "s'arrête à 45 °C, excepté pour vider un four en train de fuir."),
        ],
        [
            h1("Évacuation et premiers secours"),
            plan(),
            LOOK.caption("Figure 1. Sorties de secours S1 à S4. La sortie S3 est fermée pour travaux "
                         "jusqu'au 30 juin 2024."),
            h2("Premiers secours"),
            table([["Blessure", "À faire", "À ne pas faire"],
                   ["Brûlure", "eau à 15 °C pendant 20 minutes", "glace, pommade, arracher le tissu collé"],
                   ["Coupure avec éclat", "comprimer autour de l'éclat", "retirer l'éclat"],
                   ["Coup de chaleur", "ombre, eau par petites gorgées", "boissons glacées, café"],
                   ["Poussière dans l'œil", "rincer 10 minutes à la douche oculaire", "frotter"]],
                   [1.2, 2, 2], left=(0, 1, 2), pad=4.5),
            *LOOK.ps("Les douches oculaires se trouvent à l'entrée de l'atelier de taille et à côté du "
                     "four F4. Il n'y en a pas dans le magasin. Elles sont essayées "
                     "chaque lundi.",
                     "L'infirmerie décide s'il faut appeler une ambulance. Quand elle est fermée, entre 20 "
                     "h et 6 h, le chef d'équipe appelle lui-même le 15."),
            h2("Exercices"),
            *LOOK.ps("Un exercice d'évacuation a lieu deux fois par an. Le dernier, le 12 octobre 2023, a "
                     "duré 4 minutes et 10 secondes pour 83 personnes ; l'objectif est "
                     "de 3 minutes et 30 secondes."),
        ],
        [
            h1("Produits dangereux et formation"),
            table([["Produit", "Usage", "Quantité maximale", "Lieu"],
                   ["Acide fluorhydrique à 40 %", "dépolissage", "20 litres", "armoire 2"],
                   ["Oxyde de cérium", "polissage", "150 kg", "magasin"],
                   ["Nitrate de potassium", "affinage", "80 kg", "armoire 5"],
                   ["Propane", "chalumeaux", "6 bouteilles de 35 kg", "local gaz"]], [2, 1.2, 1.6, 1],
                   left=(0, 1, 2, 3), pad=5),
            *LOOK.ps("L'acide fluorhydrique n'est manipulé que par deux personnes ensemble, dont l'une "
                     "formée depuis moins d'un an. Le gel de gluconate de calcium est rangé "
                     "sur la porte de l'armoire 2, et non à l'infirmerie."),
            h2("Formations obligatoires"),
            table([["Formation", "Pour qui", "Durée", "À refaire"],
                   ["Accueil sécurité", "tous", "3 heures", "jamais"],
                   ["Conduite des fours", "halle des fours", "5 jours", "tous les 3 ans"],
                   ["Acide fluorhydrique", "dépolissage", "1 jour", "chaque année"],
                   ["Chariot élévateur", "magasin", "3 jours", "tous les 5 ans"],
                   ["Extincteurs", "un salarié sur quatre", "2 heures", "tous les 2 ans"]],
                   [1.6, 1.5, 1, 1.2], left=(0, 1, 2, 3), pad=5),
            h2("Sanctions"),
            *LOOK.ps("Le non-respect du manuel peut entraîner un avertissement. Celui qui signale son "
                     "propre oubli avant un accident n'est pas sanctionné, sauf en cas de "
                     "mise en danger volontaire.",
                     "Personne ne peut être sanctionné pour avoir arrêté un four qu'il croyait dangereux, "
                     "même à tort."),
            h2("Accusé de réception"),
            *LOOK.ps("J'ai lu et compris le manuel MS-04.",
                     "Nom : ........................................................ &nbsp;&nbsp; Date : "
                     "......................... &nbsp;&nbsp; "
                     "Signature : ............................."),
        ],
    ]  # fmt: skip
    write_pdf(path, [Sheet(page) for page in pages], PAPER, title="Manuel de sécurité MS-04",
              author="Verrerie de Montclair", lang="fr",
              furniture=furniture)  # fmt: skip
    return path
