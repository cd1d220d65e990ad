#pragma once

#include <string>
#include <vector>

#include "calque/io/csv.h"
#include "calque/record/report.h"

namespace calque::record {

// The header and rows of modules.csv: one row per quantized matrix, in rounding order.
std::string modules_csv_header();
std::string modules_csv_row(const ModuleReport& module);

// Splits the rows into passes over the model, in the order they ran: a repeated name begins a new
// pass.
std::vector<std::vector<ModuleReport>> passes_from(const io::Csv& modules);

// The part of a module's name after "layers.N.", without experts' numbers; the whole name if it has
// no layer number.
std::string role_of(const std::string& module);

}  // namespace calque::record
