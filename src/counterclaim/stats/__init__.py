"""Paired statistics: intervals, tests, equivalence, power.

Every interval comes as ``counterclaim.records.Estimate``; what is undefined says why. All randomness comes from a
seeded PCG64, so equal arguments give equal bits.
"""

from counterclaim.stats.auc import (
    WIDENED,
    auc,
    auc_of_sizes,
    bootstrap_auc,
    bootstrap_auc_difference,
    delong,
    delong_paired,
    widen_auc,
)
from counterclaim.stats.equivalence import Equivalence, tost, tost_proportions
from counterclaim.stats.logistic import (
    Logistic,
    cross_decisions,
    fit_gram,
    fit_logistic,
    standardisation,
    stratified_folds,
)
from counterclaim.stats.means import ancova, mean, paired_mean, random_effects
from counterclaim.stats.multiple import holm
from counterclaim.stats.passk import pass_at_k
from counterclaim.stats.permutation import (
    arm_swap_test,
    cohen_d,
    max_null,
    permuted_max_d,
    random_half_sums,
    sign_flip_test,
)
from counterclaim.stats.power import (
    mde,
    mde_auc,
    mde_binary_paired,
    n_for,
    n_for_binary_paired,
    n_to_settle,
    power_mcnemar,
    power_paired_t,
)
from counterclaim.stats.proportion import (
    cohen_kappa,
    difference_of_estimates,
    mcnemar_exact,
    mcnemar_range,
    newcombe_difference,
    newcombe_paired,
    paired_difference_range,
    widest_mean_difference,
    wilson,
)
from counterclaim.stats.resample import Statistic, bootstrap_counts, percentile_interval
from counterclaim.stats.weights import bootstrap_means, bootstrap_weights

__all__ = [
    "WIDENED",
    "Equivalence",
    "Logistic",
    "Statistic",
    "ancova",
    "arm_swap_test",
    "auc",
    "auc_of_sizes",
    "bootstrap_auc",
    "bootstrap_auc_difference",
    "bootstrap_counts",
    "bootstrap_means",
    "bootstrap_weights",
    "cohen_d",
    "cohen_kappa",
    "cross_decisions",
    "delong",
    "delong_paired",
    "difference_of_estimates",
    "fit_gram",
    "fit_logistic",
    "holm",
    "max_null",
    "mcnemar_exact",
    "mcnemar_range",
    "mde",
    "mde_auc",
    "mde_binary_paired",
    "mean",
    "n_for",
    "n_for_binary_paired",
    "n_to_settle",
    "newcombe_difference",
    "newcombe_paired",
    "paired_difference_range",
    "paired_mean",
    "pass_at_k",
    "percentile_interval",
    "permuted_max_d",
    "power_mcnemar",
    "power_paired_t",
    "random_effects",
    "random_half_sums",
    "sign_flip_test",
    "standardisation",
    "stratified_folds",
    "tost",
    "tost_proportions",
    "widen_auc",
    "widest_mean_difference",
    "wilson",
]
