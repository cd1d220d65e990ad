#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "calque/artifact/plan.h"
#include "calque/pipeline/memory_plan.h"
#include "calque/pipeline/report.h"

namespace calque::cli {

// What a format name and its storage are called in tables: "GPTQ 4 bit g128", "GGUF Q4_0".
std::string format_text(const artifact::ExportPlan& plan);

// The end of `calque run`: a row for the original and one an artifact, then seconds by stage, peak
// memory, warnings, and where the files are and how to load them.
std::string report_text(const pipeline::Report& report, const std::filesystem::path& run_dir);

// `calque validate`: a row a stage, and what goes to files.
std::string memory_text(const pipeline::MemoryPlan& plan);

// `calque validate`: a row an export.
std::string plan_table(const std::vector<artifact::ExportPlan>& plans);

// `calque validate`, of a GGUF export: a row a type; `calque validate --tensors`: a row a tensor of
// the file (experts that are stacked in one count as one).
std::string types_table(const artifact::ExportPlan& plan);
std::string tensors_table(const artifact::ExportPlan& plan);

}  // namespace calque::cli
