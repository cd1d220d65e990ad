#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "calque/forecast/memory_plan.h"
#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/record/report.h"

namespace calque::cli {

// A format and its storage as shown in tables: "GPTQ 4 bit g128", "GGUF Q4_0".
std::string format_text(const formats::ExportPlan& plan);

// The end of `calque run`: one row for the original and one per artifact, then seconds by stage,
// peak memory, warnings, paths of the files and how to load them.
std::string report_text(const record::Report& report, const std::filesystem::path& run_dir);

// The last lines of a run: the commands that measure, show and repeat it. `job_file`: as the user
// wrote it.
std::string next_text(const record::Report& report, const job::Job& job,
                      const std::filesystem::path& job_file);

// Stages that took any time, in order, with their seconds.
std::vector<std::pair<std::string, double>> stage_list(const record::StageSeconds& stages);

// Predicted next to measured values: sizes, memory, time. "" if nothing was predicted.
std::string predictions_text(const record::Report& report);

// `calque validate`: one row per stage, and the data that goes to files.
std::string memory_text(const forecast::MemoryPlan& plan);

// `calque validate`: one row per export.
std::string plan_table(const std::vector<formats::ExportPlan>& plans);

// `calque validate` for a GGUF export: one row per type; with --tensors one row per tensor of the
// file (stacked experts count as one).
std::string types_table(const formats::ExportPlan& plan);
std::string tensors_table(const formats::ExportPlan& plan);

}  // namespace calque::cli
