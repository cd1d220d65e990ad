#include "calque/forecast/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "calque/core/error.h"
#include "calque/core/units.h"
#include "forecast/stage_memory.h"

namespace calque::forecast {
namespace {

constexpr const char* kBeingRead = "rows of activations that are being read";

std::uint64_t sum(const std::vector<std::uint64_t>& values) {
  return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
}

// Follows io::ScratchSpace: an array stays in memory if it fits next to those before it.
void share_out(std::uint64_t budget, MemoryPlan::Stage& stage) {
  for (const std::uint64_t array : stage.activations) {
    const bool fits = array <= budget - stage.activation_ram_bytes;
    (fits ? stage.activation_ram_bytes : stage.activation_file_bytes) += array;
  }
}

std::string line_of(std::uint64_t bytes, const std::string& what) {
  return fmt::format("\n  {:8.3f} GiB  {}", static_cast<double>(bytes) / kGiB, what);
}

// Lines that add up: the largest items, and the sum of the others.
std::string listed(std::vector<StageMemory::Item> items) {
  constexpr std::size_t kNamed = 6;
  std::stable_sort(items.begin(), items.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  std::string text;
  std::uint64_t others = 0;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (i < kNamed)
      text += line_of(items[i].bytes, items[i].what);
    else
      others += items[i].bytes;
  if (items.size() > kNamed)
    text += line_of(others, fmt::format("and {} smaller ones", items.size() - kNamed));
  return text;
}

[[noreturn]] void refuse(const job::Job& job, const StageMemory& stage,
                         StageMemory::Item activations, const std::string& why) {
  const std::uint64_t needed = stage.bytes + activations.bytes;
  std::vector<StageMemory::Item> items = stage.items;
  items.push_back(std::move(activations));
  throw Error(ErrorKind::kResource, "E301",
              fmt::format("runtime.max_ram: {:.3f} GiB is too little{}. Stage '{}' needs{}\nSet "
                          "runtime.max_ram to {:.3f} GiB or more, or remove it",
                          static_cast<double>(job.runtime.max_ram) / kGiB, why, stage.stage,
                          listed(std::move(items)), static_cast<double>(needed) / kGiB + 0.0005));
}

const MemoryPlan::Stage& largest(const std::vector<MemoryPlan::Stage>& stages) {
  return *std::max_element(stages.begin(), stages.end(),
                           [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
}

void keep_in_ram(MemoryPlan& plan) {
  for (MemoryPlan::Stage& stage : plan.stages) share_out(UINT64_MAX, stage);
}

// Gives activations the part of max_ram that the most demanding stage leaves.
void keep_within(const JobShapes& shapes, MemoryPlan& plan) {
  const job::Job& job = shapes.job;
  const bool everything_fits =
      std::all_of(plan.stages.begin(), plan.stages.end(), [&](const MemoryPlan::Stage& stage) {
        return stage.bytes + sum(stage.activations) <= job.runtime.max_ram;
      });
  if (everything_fits) return keep_in_ram(plan);
  const MemoryPlan::Stage& worst = largest(plan.stages);
  const std::uint64_t being_read = std::min(rows_being_read(shapes), plan.activation_bytes);
  const std::uint64_t least = worst.bytes + being_read;
  if (job.runtime.offload_dir.empty() && job.run_dir.empty())
    refuse(job, worst, {"activations", being_read + plan.activation_bytes},
           " for all activations in memory, and there is neither runtime.offload_dir nor run_dir");
  if (least > job.runtime.max_ram)
    refuse(job, worst, {kBeingRead, being_read}, " even with all activations in files");
  plan.activation_budget_bytes = job.runtime.max_ram - least;
  for (MemoryPlan::Stage& stage : plan.stages) {
    share_out(plan.activation_budget_bytes, stage);
    if (stage.activation_file_bytes == 0) continue;
    stage.items.push_back({kBeingRead, being_read});
    stage.bytes += being_read;
  }
}

}  // namespace

const MemoryPlan::Stage& MemoryPlan::worst() const {
  return *std::max_element(stages.begin(), stages.end(), [](const Stage& a, const Stage& b) {
    return a.peak_bytes() < b.peak_bytes();
  });
}

MemoryPlan plan_memory(const job::Job& job, const model::FamilySpec& family,
                       const std::vector<formats::ExportPlan>& plans,
                       const std::optional<AllocationShape>& allocation) {
  const JobShapes shapes(job, family, plans);
  MemoryPlan plan;
  if (allocation)
    if (auto memory = allocate_memory(shapes, *allocation))
      plan.stages.push_back({std::move(*memory)});
  for (const auto stage :
       {forward_memory, statistics_memory, quantize_memory, write_memory, evaluate_memory})
    if (std::optional<StageMemory> memory = stage(shapes))
      plan.stages.push_back({std::move(*memory)});
  for (const MemoryPlan::Stage& stage : plan.stages)
    plan.activation_bytes = std::max(plan.activation_bytes, sum(stage.activations));
  if (job.runtime.max_ram == 0)
    keep_in_ram(plan);
  else
    keep_within(shapes, plan);
  for (const MemoryPlan::Stage& stage : plan.stages) {
    plan.activation_ram_bytes = std::max(plan.activation_ram_bytes, stage.activation_ram_bytes);
    plan.activation_file_bytes = std::max(plan.activation_file_bytes, stage.activation_file_bytes);
    plan.peak_bytes = std::max(plan.peak_bytes, stage.peak_bytes());
  }
  plan.peak_bytes = std::max(plan.peak_bytes, opening_bytes(shapes));
  return plan;
}

}  // namespace calque::forecast
