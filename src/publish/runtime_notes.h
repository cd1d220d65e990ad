#pragma once

#include <string>

#include "calque/formats/plan.h"

namespace calque::publish {

// "How to run" of a card: the commands of the runtimes that load this container, and what of it
// they do not load (formats_gptq_awq.md, sections 2.3 and 5).
std::string runtime_limit(const formats::ExportPlan& plan);  // what they do not load; "": nothing
std::string runtime_notes(const formats::ExportPlan& plan);

}  // namespace calque::publish
