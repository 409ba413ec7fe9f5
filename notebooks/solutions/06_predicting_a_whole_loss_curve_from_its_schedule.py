"""Solutions to the exercises of 06_predicting_a_whole_loss_curve_from_its_schedule.ipynb: one block a tagged cell."""

# %% exercise-1
from workbench.laws.schedules.annealing import Annealing

remembered = workbench.fit_curves(curves, "annealing", train=train, fixed={"tau": Annealing.memory(0.999)}, **thin)
answer_1 = 1000 * remembered.score(n=0).loc["mean", "MAE"]

# %% exercise-2
mixed = fit.refit(["constant", "drop to 0.1", "wsd 20 %"])
answer_2 = 1000 * mixed.predict("cosine", [16384], kind="schedule").eval("high - prediction").iloc[0]

# %% exercise-3
longer = Schedule.cosine(32768, 0.016, 0.0, warmup=983, name="longer cosine")
ending = fit.predict(longer, [32768], n=0)["prediction"].iloc[0]
answer_3 = 1000 * (fit.predict("cosine", [16384], n=0)["prediction"].iloc[0] - ending)
