#pragma once

#include "calque/model/family.h"

namespace calque::model {

// Changes what a block shows when it runs cut at its sites: every token arrives at every expert,
// though its output still comes from the experts that the router chose. The gate and up of all
// experts become readers of the site that all tokens reach, mlp_in, whose statistics they share;
// the sites "expert_in" are no more.
void show_all_tokens(FamilySpec& family);

}  // namespace calque::model
