#pragma once

#include <vector>

#include "calque/report/record.h"
#include "report/csv.h"

namespace calque::report {

// modules.csv, cut into passes: a module that comes again begins the next.
std::vector<std::vector<Module>> passes_of(const Csv& modules);

// "model.layers.3.mlp.experts.5.up_proj" is "mlp.experts.up_proj" in every block; a name without
// a block stays.
std::string role_of(const std::string& module);

}  // namespace calque::report
