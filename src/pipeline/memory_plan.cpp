#include "calque/pipeline/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "calque/core/error.h"
#include "pipeline/memory_stages.h"
#include "pipeline/plan_job.h"

namespace calque::pipeline {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

// Rows of activations in files that are being worked on, of two streams (model/torch/block_pass.cpp
// lets go of them 64 MiB at a time).
constexpr std::uint64_t kRowsBeingRead = std::uint64_t{128} << 20;

std::uint64_t sum(const std::vector<std::uint64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
}

// As io::ScratchSpace does it: what fits beside those before it stays in memory.
void share_out(std::uint64_t budget, MemoryPlan::Stage& stage) {
  for (const std::uint64_t array : stage.activations) {
    const bool fits = array <= budget - stage.activation_ram_bytes;
    (fits ? stage.activation_ram_bytes : stage.activation_file_bytes) += array;
  }
}

std::string listed(const StageMemory& stage) {
  std::string text;
  for (const StageMemory::Item& item : stage.items)
    text += fmt::format("\n  {:8.3f} GiB  {}", static_cast<double>(item.bytes) / kGiB, item.what);
  return text;
}

[[noreturn]] void refuse(const Job& job, const StageMemory& stage, std::uint64_t needed,
                         const std::string& why) {
  throw Error(ErrorKind::kResource, "E301",
              fmt::format("runtime.max_ram: {:.3f} GiB is too little{}. Stage '{}' holds{}\nSet "
                          "runtime.max_ram to {:.3f} GiB or more, or leave it out",
                          static_cast<double>(job.runtime.max_ram) / kGiB, why, stage.stage,
                          listed(stage), static_cast<double>(needed) / kGiB + 0.0005));
}

const MemoryPlan::Stage& largest(const std::vector<MemoryPlan::Stage>& stages) {
  return *std::max_element(stages.begin(), stages.end(),
                           [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
}

void keep_in_ram(MemoryPlan& plan) {
  for (MemoryPlan::Stage& stage : plan.stages) share_out(UINT64_MAX, stage);
}

// What is left of max_ram after the stage that holds most goes to activations.
void keep_within(const Job& job, MemoryPlan& plan) {
  const bool everything_fits =
      std::all_of(plan.stages.begin(), plan.stages.end(), [&](const MemoryPlan::Stage& stage) {
        return stage.bytes + sum(stage.activations) <= job.runtime.max_ram;
      });
  if (everything_fits) return keep_in_ram(plan);
  const MemoryPlan::Stage& worst = largest(plan.stages);
  const std::uint64_t being_read = std::min(kRowsBeingRead, plan.activation_bytes);
  const std::uint64_t least = worst.bytes + being_read;
  if (job.runtime.offload_dir.empty() && job.run_dir.empty())
    refuse(job, worst, least + plan.activation_bytes,
           " for all activations in memory, and there is neither runtime.offload_dir nor run_dir");
  if (least > job.runtime.max_ram) refuse(job, worst, least, " even with all activations in files");
  plan.activation_budget_bytes = job.runtime.max_ram - least;
  for (MemoryPlan::Stage& stage : plan.stages) {
    share_out(plan.activation_budget_bytes, stage);
    if (stage.activation_file_bytes == 0) continue;
    stage.items.push_back({"rows of activations that are being read", being_read});
    stage.bytes += being_read;
  }
}

}  // namespace

const MemoryPlan::Stage& MemoryPlan::worst() const {
  return *std::max_element(stages.begin(), stages.end(), [](const Stage& a, const Stage& b) {
    return a.peak_bytes() < b.peak_bytes();
  });
}

MemoryPlan plan_memory(const Job& job, const model::FamilySpec& family,
                       const std::vector<artifact::ExportPlan>& plans) {
  const JobShapes shapes(job, family, plans);
  MemoryPlan plan;
  for (const auto stage :
       {forward_memory, statistics_memory, quantize_memory, write_memory, evaluate_memory})
    if (std::optional<StageMemory> memory = stage(shapes))
      plan.stages.push_back({std::move(*memory)});
  for (const MemoryPlan::Stage& stage : plan.stages)
    plan.activation_bytes = std::max(plan.activation_bytes, sum(stage.activations));
  if (job.runtime.max_ram == 0)
    keep_in_ram(plan);
  else
    keep_within(job, plan);
  for (const MemoryPlan::Stage& stage : plan.stages) {
    plan.activation_ram_bytes = std::max(plan.activation_ram_bytes, stage.activation_ram_bytes);
    plan.activation_file_bytes = std::max(plan.activation_file_bytes, stage.activation_file_bytes);
    plan.peak_bytes = std::max(plan.peak_bytes, stage.peak_bytes());
  }
  return plan;
}

MemoryPlan plan_memory(const Job& job) {
  const SourceModel source(job.model.path, job.model.allow_requantize);
  return plan_memory(job, source.family, plan_exports(job, source));
}

}  // namespace calque::pipeline
