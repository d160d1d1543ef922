"""The words of the two-column paper; `float` names a figure or a table that `paper.py` draws."""

ABSTRACT = (
    "Household sand filters are rarely fed all day. Guidance says that the sand must not dry out, but "
    "gives no limit to how long water may stand. We "
    "ran 22 full-size filters for 84 days on river water with rests of 0, 12 and 48 hours. Filters that "
    "rested for 12 hours removed more "
    "E. coli than filters without rest (2.7 against 2.4 log), while filters that rested for 48 hours "
    "removed only 1.3 log and released nitrite. "
    "Oxygen in the biological layer fell below 1 mg/l after 31 hours. Passive aeration of the standing "
    "water gave no further benefit at a rest of 12 hours. We "
    "advise a daily filling, and no rest of more than a day."
)

PARTS: tuple[tuple[str, str], ...] = (
    ("head", "1  Introduction"),
    ("text", "About four in ten households of the Mbarule hills drink water from open streams. A slow sand "
             "filter of concrete, filled by bucket, is the cheapest "
     "device that makes such water fit to drink, and local masons can build it [1]. Its core is a thin "
     "living layer on top of the sand, in which "
     "bacteria are eaten, trapped and starved [2, 5]."),
    ("text", "Large slow sand filters run day and night. Household filters do not: they are filled once or "
             "twice a day, and stand still in between. Whether "
     "the rest does harm has been disputed. Castellane [3] found that a rest of six hours improved the "
     "removal of bacteria, Oduya and Brandl [4] "
     "found no effect of rests between four and sixteen hours, and Hemmings [6] saw removal collapse after "
     "a weekend without water. None of them "
     "measured oxygen in the sand, which would explain why."),
    ("text", "This paper asks three questions. How does removal depend on the length of the rest? At which "
             "point does the living layer run out of oxygen? And "
     "does it help to let air into the standing water? We do not study viruses, nor filters that have "
     "dried out."),
    ("head", "2  Materials and methods"),
    ("text", "<b>Filters.</b> Twenty-two filters were cast in the same steel mould (figure 1). Fine sand "
             "with an effective size of 0.17 mm and a uniformity "
     "coefficient of 2.1 was washed eight times. The outlet pipe keeps 60 mm of water above the sand when "
     "the filter stands."),
    ("text", "<b>Groups.</b> The filters were assigned to four groups by lot (table 1). Group A was fed by "
             "a dosing pump without a stop. Groups B and C were "
     "filled by hand with 60 litres, twice a day and once every second day, so that their filters rested "
     "for about 12 and 48 hours less the time of "
     "running. We count rest from one filling to the next. Group D was treated as group B, but a "
     "perforated plate let the standing water take up air."),
    ("float", "figure 1"),
    ("float", "table 1"),
    ("text", "The longer the rest, the less water passed in a day. Volume and rest are thus not "
             "independent, a limit to which we return in section 5."),
    ("text", "<b>Water.</b> All filters received water of the Teku river, taken at the bridge at 06:00. "
             "Its turbidity was 8.7 NTU in the mean and never "
     "above 31 NTU. We did not chlorinate it at any time, and did not settle it except on days 40 to 43, "
     "after a landslide upstream."),
    ("text", "<b>Sampling.</b> Samples of 250 ml were taken at the outlet after 20 litres had passed, on "
             "Mondays and Thursdays. E. coli was counted by "
     "membrane filtration on chromogenic agar, in duplicate. Dissolved oxygen was measured with an optical "
     "probe, 4 mm wide, that had been cast into the wall 15 mm "
     "below the surface of the sand in three filters of group C. Nitrite and nitrate were measured by "
     "photometer within two hours."),
    ("text", "<b>Statistics.</b> Groups were compared by the Kruskal-Wallis test on the filter means of "
             "weeks 9 to 12, followed by Dunn's test with the "
     "correction of Holm. Filters that had failed were left out from the day of the failure. The analysis "
     "plan was fixed before week 9."),
    ("head", "3  Results"),
    ("head", "3.1  Removal of bacteria"),
    ("text", "Removal rose in all groups for about eight weeks and then levelled out (figure 2). In weeks "
             "9 to 12 the groups differed (p &lt; 0.001). Group B "
     "did better than group A (p = 0.018). Group C did worse than every other group (p &lt; 0.001 in each "
     "case). Groups B and D did not differ (p = 0.44)."),
    ("float", "figure 2"),
    ("text", "Expressed as a share, group A let 0.4% of the bacteria pass, group B 0.2%, and group C 5%. "
             "On the day after the landslide removal fell by 0.8 log in "
     "group A and by 0.3 log in group B; it recovered within nine days in A and within four in B."),
    ("text", "No filter met the national standard of zero E. coli in 100 ml on every date. Group D met it "
             "on 31% of the dates, group B on 28%, group A on 14%, "
     "and group C never."),
    ("head", "3.2  Oxygen and nitrogen"),
    ("text", "During a rest of 48 hours oxygen in the layer fell from 7.9 to 0.3 mg/l and passed 1 mg/l "
             "after 31 hours (figure 3). The fall was faster on warm days: at "
     "water temperatures above 24 °C the limit was passed after 24 hours, below 18 °C after 39 hours."),
    ("float", "figure 3"),
    ("text", "Nitrate rose between inlet and outlet in groups A, B and D, which shows that ammonium was "
             "being oxidised. In group C it fell from 9.8 to 4.1 mg/l, and "
     "nitrite appeared (table 2). Nitrite in group C was above the guideline of 0.9 mg/l as nitrogen in "
     "none of the samples, but above half of it in most. The "
     "first 10 litres after a rest carried nearly all of it."),
    ("float", "table 2"),
    ("head", "3.3  Flow and failures"),
    ("text", "Flow fell in every group, and most where most water had passed (figure 4). Group A would "
             "have needed cleaning in week 11; we did not clean, in order "
     "not to disturb the layer."),
    ("float", "figure 4"),
    ("text", "Eight of the 22 filters failed within the 84 days (table 3). We call a filter failed when it "
             "gave less than 8 litres per hour, leaked, or had been stirred "
     "up. Both filters with sand disturbed had been filled without the diffuser. Clogging did not occur in "
     "groups C and D."),
    ("float", "table 3"),
    ("head", "4  Cost"),
    ("text", "A filter cost 3,500 shillings (table 4), about eleven days' pay of a farm hand. The "
             "perforated plate of group D adds 260 shillings. Over ten "
     "years and at 40 litres a day, the cost is 0.024 shillings per litre, without the time of the person "
     "who fetches the water."),
    ("float", "table 4"),
    ("head", "5  Discussion"),
    ("text", "<b>A short rest helps.</b> That group B did better than group A agrees with Castellane [3]. "
             "Two explanations are possible: the rest itself, during which "
     "grazers catch up, or the lower volume. Our design cannot separate the two. A second experiment, in "
     "which group A was throttled to 120 litres a day in weeks 13 to "
     "15, gave 2.5 log for A, which suggests that the volume accounts for only a third of the difference."),
    ("text", "<b>A long rest harms.</b> The collapse that Hemmings [6] saw after a weekend has its cause "
             "in the loss of oxygen. Once oxygen is spent, bacteria in the layer "
     "turn to nitrate, nitrite is formed, grazers die or encyst, and the first water after the rest "
     "carries out what has died. After a return to daily filling three filters of group C "
     "needed 16, 18 and 23 days to reach 2.0 log."),
    ("text", "<b>Air is not needed at 12 hours.</b> The plate of group D kept oxygen above 5 mg/l through "
             "the night. Since oxygen in group B never fell below 4.4 mg/l, there was "
     "nothing to gain. Whether the plate would rescue filters that rest for two days we do not know; we "
     "have not tried it."),
    ("text", "<b>Limits.</b> The filters stood in the shade, next to each other, and were filled by "
             "trained staff. At home sand is stirred, lids are lost, and rests are "
     "irregular. The trial ended before the dry season, when the Teku is clearer but warmer. We counted E. "
     "coli only, not viruses or protozoa. Four filters in group D are "
     "too few to exclude a small benefit."),
    ("text", "<b>Comparison with guidance.</b> The manual of the Rural Water Office [7] asks users to fill "
             "the filter every day, without giving a reason, and allows a pause of "
     "up to a week if the water stands at least 50 mm deep. Our results support the former and speak "
     "against the latter. The manual's remark that the first bucket after "
     "a journey should be thrown away is sound; we would make it the first 20 litres."),
    ("head", "6  Conclusions"),
    ("text", "(1) A daily rest of 12 hours does not harm a household sand filter and is better than none. "
             "(2) After 31 hours, or 24 in warm weather, the living layer is without oxygen. "
     "(3) Filters that rest for two days let one bacterium in twenty pass, smell, and release nitrite, "
     "though below the guideline. (4) Users who have been away for more "
     "than a day should throw away the first 20 litres, and boil their water for three weeks. (5) Aeration "
     "is not worth its cost if the filter is used daily."),
    ("head", "Appendix A  The river"),
    ("text", "Table 5 gives the water that was fed to the filters. The landslide of 3 April fell in week "
             "6, and raised turbidity to 31 NTU for one day. Rain fell on 29 of the 84 days."),
    ("float", "table 5"),
    ("head", "Appendix B  Throttled flow"),
    ("text", "For three weeks after the trial the two filters of group A that had not failed received 120 "
             "litres a day, still without a rest (table 6). With so few filters no test was made."),
    ("float", "table 6"),
    ("head", "Appendix C  Cleaning"),
    ("text", "Filters are cleaned when they give less than 8 litres per hour: stir the top 20 mm of the "
             "sand by hand, and scoop off the turbid water, three times. The sand is not taken out and is "
             "never "
     "washed with chlorinated water. After cleaning, removal is low for about ten days; the water should "
     "be boiled until then, unless it is used for washing only."),
    ("head", "Acknowledgements"),
    ("text", "We thank the masons of Upper Mbarule, and Tobias Kirui, who filled the filters for 84 "
             "mornings and missed none. The work was paid for by the Dornstett Fund (grant DF-2021-38). "
     "The fund had no part in the design. Data are held by the first author and may be had on request, "
     "except for the names of the households that lent us their "
     "sand."),
)  # fmt: skip

REFERENCES = (
    "Rural Masons' Union of Mbarule. <i>Drawings for a concrete filter.</i> Second edition, 2014.",
    "Volmer, L., and Achterberg, I. Who eats whom on top of the sand. <i>Annals of Filtration</i> 27 "
    "(2016), 88–104.",
    "Castellane, M. Pause and removal in bucket-fed filters. <i>Journal of Small Water Supplies</i> 3 "
    "(2015), 12–19.",
    "Oduya, F., and Brandl, R. Rest periods of four to sixteen hours: a trial without effect. <i>Annals of "
    "Filtration</i> 29 (2018), 231–240.",
    "Sundaresh, P. Grazers in slow filters. Doctoral thesis, Mbarule Institute of Water, 2019.",
    "Hemmings, J. The Monday problem: school filters after the weekend. <i>Water in Schools</i> 8 (2017), "
    "45–51.",
    "Rural Water Office. <i>Household filters: a manual for health workers.</i> Report 61, 2011.",
    "Njeru, A. Turbidity of the Teku, 2009 to 2020. <i>Hill Rivers</i> 14 (2021), 3–17.",
    "Varga-Lindholm, K. Optical probes for oxygen in sand beds. <i>Instruments of Limnology</i> 40 (2020), "
    "310–322.",
    "Achterberg, I. Nitrite from resting filters: a warning. <i>Letters on Drinking Water</i> 5 (2021), "
    "77–79.",
)
