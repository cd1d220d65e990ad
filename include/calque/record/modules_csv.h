#pragma once

#include <string>
#include <vector>

#include "calque/io/csv.h"
#include "calque/record/report.h"

namespace calque::record {

// modules.csv: a row a quantized matrix, in the order in which they were rounded.
std::string modules_csv_header();
std::string modules_csv_row(const ModuleReport& module);

// The rows as passes over the model in the order they ran: a name that comes again begins a new
// one.
std::vector<std::vector<ModuleReport>> passes_from(const io::Csv& modules);

// What follows "layers.N." in a module's name, without experts' numbers; the name if it has no
// number.
std::string role_of(const std::string& module);

}  // namespace calque::record
