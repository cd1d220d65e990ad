#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "calque/forecast/memory_plan.h"
#include "calque/formats/plan.h"
#include "calque/record/report.h"

namespace calque::cli {

// What a format name and its storage are called in tables: "GPTQ 4 bit g128", "GGUF Q4_0".
std::string format_text(const formats::ExportPlan& plan);

// The end of `calque run`: a row for the original and one an artifact, then seconds by stage, peak
// memory, warnings, and where the files are and how to load them.
std::string report_text(const record::Report& report, const std::filesystem::path& run_dir);

// Stages that took any time, in their order, with their seconds.
std::vector<std::pair<std::string, double>> stage_list(const record::StageSeconds& stages);

// What was predicted beside what came: sizes, memory, time. "": nothing was predicted.
std::string predictions_text(const record::Report& report);

// `calque validate`: a row a stage, and what goes to files.
std::string memory_text(const forecast::MemoryPlan& plan);

// `calque validate`: a row an export.
std::string plan_table(const std::vector<formats::ExportPlan>& plans);

// `calque validate`, of a GGUF export: a row a type; `calque validate --tensors`: a row a tensor of
// the file (experts that are stacked in one count as one).
std::string types_table(const formats::ExportPlan& plan);
std::string tensors_table(const formats::ExportPlan& plan);

}  // namespace calque::cli
