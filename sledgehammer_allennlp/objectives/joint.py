"""All exits together."""

from sledgehammer_allennlp.objectives.objective import Objective


@Objective.register("joint")
class Joint(Objective):
    """
    The sum of the cross-entropies of all exits (Schwartz et al. 2020, section 3).

    Registered as an `Objective` with name "joint". It has no parameters.
    """
