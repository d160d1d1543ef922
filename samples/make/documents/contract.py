"""A contract: negations, exceptions, notice periods and caps, with clauses that nearly say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reportlab.lib.pagesizes import A4

from samples.make import scan
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper(margins=(72, 78, 72, 68))
LOOK = Look("#000000", PAPER.width, "Stix", "Stix-Bold", size=12.6, justify=True, grid=True)
h1, h2, table = LOOK.h1, LOOK.h2, LOOK.table

CLAUSES: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...] = (
    (
        ("1  Definitions", (
            "<b>Chilled Goods</b> means Goods that are to be kept at between 0 °C and 5 °C; <b>Frozen "
            "Goods</b> means Goods that are to be kept at "
            "-18 °C or colder; <b>Ambient Goods</b> means all other Goods.",
            "<b>Business Day</b> means any day except Saturday, Sunday and public holidays in England. "
            "<b>Charges</b> means the sums in Schedule 2.",
            "<b>Excursion</b> means a period of more than 30 minutes in which the air temperature in a "
            "Chamber lies outside the range for the Goods "
            "in it. Opening of doors for loading does not count as an Excursion unless it lasts longer "
            "than 45 minutes.",
            "<b>Storage Year</b> means a period of twelve months that begins on 1 April.")),
        ("2  Term", (
            "This Agreement begins on 1 April 2024 and continues for an initial term of five years. It "
            "does not renew itself. The parties may extend it "
            "once, by two years, in writing signed by both at least nine months before the initial term "
            "ends.",
            "The Customer may end this Agreement without cause after the third Storage Year, but not "
            "before, by giving six months' notice. The Provider "
            "has no right to end it without cause.")),
        ("3  Exclusivity", (
            "The Customer shall store all its Chilled Goods for the northern region with the Provider, "
            "except for Goods held at its own dairies. This "
            "clause does not apply to Frozen Goods or to Ambient Goods, which the Customer may store where "
            "it likes.",)),
    ),
    (
        ("4  The services", (
            "The Provider shall receive, store, pick and hand over the Goods at the Arden Road depot. It "
            "shall not move Goods to another depot without "
            "the Customer's consent, unless there is an emergency that threatens the Goods, in which case "
            "it shall tell the Customer within two hours.",
            "The Provider shall keep at least 4,200 pallet places free for the Customer from October to "
            "January, and at least 3,000 in all other months.",
            "The Provider is not obliged to receive Goods that arrive without an advance notice, Goods "
            "whose core temperature on arrival is more than 2 °C "
            "above range, or Goods that have fewer than seven days of shelf life left.",
            'Pallets may be up to 1.85 m high. The Provider may refuse higher ones, unless they are '
            'Ambient Goods on the floor of Chamber 6.',)),
        ("5  Opening hours", (
            "The depot is open for deliveries from 05:00 to 21:00 on Business Days, and from 06:00 to "
            "14:00 on Saturdays. It is closed on Sundays. On "
            "public holidays it is closed as well, other than Good Friday, on which it opens as on a "
            "Saturday.",
            'Deliveries outside these hours are possible if they are agreed by noon of the day before; the '
            'charge for them is in Schedule 2. No charge is due if the lorry was late because the Provider '
            'had turned it away earlier on the same day.',)),
        ("6  Subcontractors", (
            "The Provider shall not subcontract storage. It may subcontract carriage and cleaning without "
            "consent, but remains liable for "
            "its subcontractors as for itself.",
            "Agency workers under the Provider's daily direction are not subcontractors.",
            'The Customer may object to a subcontractor for carriage whose lorries have no temperature '
            'recorder. The Provider shall then use another, but may pass on half of the added cost.',)),
    ),
    (
        ("7  Temperature", (
            "The Provider shall record the temperature of each Chamber every five minutes, keep the "
            "records for three years, and show them on request. "
            "It shall not delete or correct a record, even if a sensor was faulty; a correction may be "
            "added beside it.",
            "The Provider shall tell the Customer of an Excursion within one hour if Chilled Goods are "
            "concerned, and within four hours if Frozen Goods are "
            "concerned. No notice is needed for Ambient Goods.",
            "Goods that have been through an Excursion shall not be handed over until the Customer's "
            "quality team has released them. Release by "
            "a driver or by a buyer is not enough.",
            'Sensors shall be calibrated every six months. A sensor that deviates by more than 0.5 °C '
            'shall be replaced within 48 hours.',)),
        ("8  Stock", (
            "A full count takes place every March and September. Differences of up to 0.15% of the pallets "
            "handled in the period are not charged to either "
            "party. Beyond that the Provider pays the cost price of what is missing; it does not pay the "
            "sales price.",
            "Surplus Goods belong to the Customer. They may not be set off against missing Goods of "
            "another kind.",
            'The Customer may ask for one more count in each Storage Year. It pays for that count unless '
            'the difference found is larger than 0.5%.',)),
        ("9  Insurance of Goods", (
            "The Customer insures the Goods against fire, flood and theft. The Provider insures its own "
            "liability for at least £10 million for any one "
            "event. Neither needs to insure against war or nuclear events.",
            "Each party shall show its certificates within ten Business Days of being asked, but not more "
            "than once a year. The Customer's insurers waive recourse against the Provider, except in "
            "cases of gross negligence.",
            "The excess of the Provider's policy, £25,000 for each event, is borne by the Provider and is "
            "not part of the Charges.",)),
    ),
    (
        ("10  Charges and payment", (
            "The Customer shall pay the Charges within 30 days of the invoice date. Invoices for pallet "
            "storage are issued weekly, all others monthly.",
            "If the Customer disputes an invoice in good faith it may hold back the disputed part, but no "
            "more than that, provided that it says why within "
            "ten Business Days of receipt. It may not hold back payment for any other reason, and may not "
            "set off.",
            "Late sums bear interest at 4% a year above the base rate of the Bank of England. No interest "
            "is due on sums held back rightly.",
            'The Provider shall not invoice a service more than six months after it was rendered. What is '
            'invoiced later need not be paid, unless the Customer asked for the delay.',
            'Payment does not mean that the Customer accepts an invoice as correct. Claims for sums paid '
            'too much end two years after payment.',)),
        ("11  Review of Charges", (
            "The Charges are fixed until 31 March 2025. After that they change each 1 April by the change "
            "in the services producer price index, but never "
            "by more than 3.5% in either direction.",
            "Energy is outside that limit: if the price of electricity departs by more than 20% from £0.21 "
            "per kWh, the energy supplement in Schedule 2 "
            "changes in proportion, from the first day of the following month.",
            "The Provider may not raise the Charges for any other reason, save for a change of law that "
            "concerns cold stores in particular.",
            'If the index ceases to be published, the parties shall agree on another. Until they do, the '
            'Charges stay as they are.',)),
    ),
    (
        ("12  Service levels", (
            "The service levels and credits are set out in Schedule 1. Credits are the Customer's only "
            "remedy for missing a service level, except where the "
            "same level is missed in three months out of any six, or where Goods are lost or damaged.",
            "No credit is due in the first two months of this Agreement, or to the extent that the "
            "Customer's forecast was exceeded by more than 15%.",
            'The Customer gives a forecast for thirteen weeks on the first Business Day of each month. A '
            'forecast does not oblige it to send any Goods.',)),
        ("13  Staff and safety", (
            "The Provider shall not let anyone drive a lift truck who does not hold a valid certificate. "
            "Drivers of the Customer shall stay in the "
            "waiting room during loading, unless they wear a high-visibility vest and are accompanied.",
            "The transfer of employees at the start and the end of this Agreement is governed by Schedule "
            "4. Neither party shall employ the other's depot "
            "managers during the term and for six months after it, except where they answered a public "
            "advertisement.")),
        ("14  Audit", (
            "The Customer may audit the depot twice in each Storage Year, on five Business Days' notice. "
            "After an Excursion it may audit without "
            "notice, and such an audit does not count towards the two. The Customer's auditors may not be "
            "competitors of the Provider.",
            'The Provider bears the cost of an audit only if it shows that temperatures were not recorded '
            'for more than 24 hours, or that Charges were too high by more than 2%.',
            'Faults that an audit finds shall be put right within 20 Business Days, or within two if they '
            'concern the safety of food.',)),
    ),
    (
        ("15  Liability", (
            "Nothing in this Agreement limits liability for death or personal injury caused by negligence, "
            "or for fraud.",
            "Subject to clause 15.1, the Provider's liability for loss of or damage to Goods is limited to "
            "£1.5 million for any one event and to £4 million in "
            "any Storage Year.",
            "Subject to clause 15.1, the liability of either party for all other claims is limited to £2 "
            "million in any Storage Year. The duty to pay the Charges "
            "is not subject to this limit.",
            "Neither party is liable for loss of profit or loss of goodwill. Fines that retailers levy on "
            "the Customer for late deliveries count as "
            "direct loss, and may be recovered, but not more than £250,000 in any Storage Year.",
            "The limits in clauses 15.2 and 15.3 do not apply where the Provider moved Goods in breach of "
            "clause 4.1, or deleted "
            "temperature records.")),
        ("16  Force majeure", (
            "Neither party is in breach to the extent that an event beyond its control prevents it from "
            "performing. A strike of the party's own staff, a failure "
            "of refrigeration and a lack of fuel for less than 72 hours are not such events.",
            "If the event lasts more than 60 days, the party that is not affected may end this Agreement "
            "by fourteen days' notice.",
            'During such an event the Customer need not pay for services that are not rendered, and may '
            'use other stores in spite of clause 3. Storage of Goods that are already in the depot is '
            'still paid for.',)),
    ),
    (
        ("17  Ending for cause", (
            "Either party may end this Agreement at once if the other is insolvent, or commits a material "
            "breach and does not put it right within 30 days "
            "of notice.",
            "The Customer may also end it by three months' notice if there are more than four Excursions "
            "with Chilled Goods in a Storage Year, whether or not "
            "Goods were lost. Excursions caused by the Customer do not count.",
            "The Provider may also end it by two months' notice if undisputed Charges of more than "
            "£400,000 have been unpaid for 45 days. It shall not refuse "
            "to hand over Goods during that notice.")),
        ("18  What happens at the end", (
            "The Customer shall fetch its Goods within 20 Business Days of the end. After that the "
            "Provider may charge double the storage rate, but may not "
            "sell or destroy Goods unless they are a hazard to health.",
            "The Provider has a lien over the Goods for unpaid Charges, other than disputed Charges. The "
            "lien does not extend to Goods which "
            "belong to a third party.",
            "Clauses 15, 19 and 20 remain in force.",
            'For three months before the end the Provider shall help with the move, at its usual rates. It '
            'need not disclose how its software works.',
            'Temperature records shall be handed over on the last day in a format that common software can '
            'read. Clause 7.1 continues to apply to copies that the Provider keeps.',)),
    ),
    (
        ("19  Confidentiality", (
            "Each party shall keep the other's prices, volumes and recipes secret during the term and for "
            "three years after it. Recipes "
            "shall be kept secret without limit of time.",
            "This does not apply to what is public other than by breach, or to what must be told to a "
            "court or an authority.",
            'The Provider may name the Customer as a reference, but may not use its logo. Photographs '
            'inside Chambers need consent in each case.',
            'Personal data of drivers are deleted after 90 days, unless an accident is being investigated.',
            )),
        ("20  General", (
            "Neither party may assign this Agreement without consent, except that the Customer may assign "
            "it to a company of its own group.",
            "Changes are valid only in writing. E-mail is not writing for this purpose, but suffices for "
            "notices under clauses 4, 7 and 14.",
            "A person who is not a party has no right to enforce this Agreement.",
            "Notices to end this Agreement must be delivered by hand or by registered post. A notice sent "
            "by post counts as received on the third Business Day.",
            "This Agreement is governed by the law of England and Wales. Disputes go first to mediation, "
            "and to the courts only if mediation has not succeeded "
            "within 40 Business Days. Either party may ask a court for an interim order at any time.",
            'If a part of this Agreement is invalid, the rest stays in force. The Schedules are part of '
            'this Agreement; where they contradict a clause, the clause prevails, except for prices, for '
            'which Schedule 2 prevails.',)),
    ),
)  # fmt: skip


def furniture(canvas: Any, number: int, pages: int) -> None:
    canvas.setFont("Stix", 9)
    canvas.drawCentredString(A4[0] / 2, 40, f"Storage Services Agreement  –  page {number} of {pages}")


def front() -> list[Flowable]:
    return [
        LOOK.p("DATED 14 MARCH 2024", align="centre", after=26), h1("STORAGE SERVICES AGREEMENT", 19),
        LOOK.p("between"),
        LOOK.p("<b>(1) Pellworth Foods Limited</b>, registered in England with number 0719 3382, of 8 "
               "Creamery Way, Holmstead (the "
                                  "<b>Customer</b>); and"),
        LOOK.p("<b>(2) Arden Cold Logistics Limited</b>, registered in England with number 0846 1157, of "
               "Arden Road, Fenwold (the <b>Provider</b>)."),
    ]  # fmt: skip


def numbered(clauses: tuple[tuple[str, tuple[str, ...]], ...]) -> list[Flowable]:
    flow: list[Flowable] = []
    for title, parts in clauses:
        flow.append(h2(title, 13.5))
        head = title.split()[0]
        flow += [LOOK.clause(f"{head}.{i}", part) for i, part in enumerate(parts, 1)]
    return flow


def schedules() -> list[Flowable]:
    return [
        h1("Schedule 1: service levels and credits", 15),
        table([["Level", "Measured", "Target", "Credit if missed"],
               ["Picking accuracy", "lines right, monthly", "99.7%", "2% of handling Charges"],
               ["Dispatch on time", "lorries, monthly", "98.0%", "3% of handling Charges"],
               ["Turnaround of deliveries", "mean, monthly", "55 minutes", "1% of handling Charges"],
               ["Stock accuracy", "pallets, half-yearly", "99.85%", "none: see clause 8"]],
               [1.5, 1.5, 1, 1.8], left=(0, 1, 2, 3), pad=5),
        LOOK.p("Credits in any month do not exceed 5% of the handling Charges of that month."),
        h1("Schedule 2: Charges", 15),
        table([["Charge", "Unit", "Chilled, £", "Frozen, £", "Ambient, £"],
               ["Storage", "pallet, week", "2.35", "2.90", "1.40"],
               ["Receipt", "pallet", "3.10", "3.60", "2.75"],
               ["Picking, full pallet", "pallet", "3.30", "3.85", "2.95"],
               ["Picking, by the case", "case", "0.24", "0.31", "0.19"],
               ["Energy supplement", "pallet, week", "0.46", "0.88", "–"],
               ["Relabelling", "pallet", "6.50", "7.20", "6.50"],
               ["Delivery out of hours", "lorry", "140.00", "140.00", "140.00"]],
              [1.8, 1.2, 1, 1, 1.05], left=(0, 1), pad=5),
        LOOK.p("The Provider shall not charge for waiting time that it caused, for counts under clause 8, "
               "or for the first relabelling of Goods that arrived "
               "with a wrong label from its own depot. A minimum of £61,000 a month applies to all Charges "
               "together, except in the first three months."),
    ]  # fmt: skip


def signatures() -> Sheet:
    def draw(canvas: Any) -> None:
        for i, (firm, name, seed) in enumerate((("Pellworth Foods Limited", "Harriet Pell, director", 31),
                                                ("Arden Cold Logistics Limited", "Joseph Marchetti, director",
                                                 37))):  # fmt: skip
            y = 215 - 85 * i
            canvas.setFont("Stix", 11.5)
            canvas.drawString(72, y + 38, f"Signed for {firm}")
            canvas.line(72, y, 290, y)
            canvas.drawString(72, y - 14, name)
            scan.signature(canvas, 84, y + 2, seed, 140)

    return Sheet([
        h1("Schedule 3: contacts", 15),
        table([["Matter", "Customer", "Provider"],
               ["Excursions, day and night", "01632 960 411", "01632 960 877"],
               ["Invoices", "ledger@pellworth.example", "billing@ardencold.example"],
               ["Notices", "Company secretary, Holmstead", "Managing director, Fenwold"]],
              [1.3, 1.8, 1.8], left=(0, 1, 2), pad=5),
        h1("Schedule 4: transfer of employees", 15),
        LOOK.clause("1",
                    "On 1 April 2024, 46 employees of the Customer's former store at Holmstead transfer to "
                    "the Provider. Their pay shall not be reduced for "
                         "two years. Night allowances are not pay for this purpose."),
        LOOK.clause("2",
                    "The Customer bears the cost of redundancies among them within the first six months; "
                    "after that the Provider does."),
        LOOK.clause("3",
                    "At the end of this Agreement the Customer is not bound to take over any employee, "
                    "unless the services return to its own "
                         "premises."),
        LOOK.clause("4",
                    "The Provider shall not, in the last six months, raise the pay of the employees "
                    "concerned by more than 3% or add to their number by more than 5% "
                         "without consent."),
    ], draw=draw)  # fmt: skip


def write(folder: Path) -> Path:
    path = folder / "pellworth-arden-storage-agreement.pdf"
    # The parties stand above the definitions, so that every clause page is a full page of clauses.
    sheets = [
        Sheet([*front(), *numbered(CLAUSES[0])]),
        *(Sheet(numbered(c)) for c in CLAUSES[1:]),
        Sheet(schedules()),
        signatures(),
    ]
    write_pdf(
        path,
        sheets,
        PAPER,
        title="Storage Services Agreement",
        author="Pellworth Foods Limited",
        furniture=furniture,
    )
    return path
