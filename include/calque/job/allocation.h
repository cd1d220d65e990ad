#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/source.h"
#include "calque/job/job.h"

// A size as a target (AllocationSettings): the choice of bits, or of a GGUF type, for every matrix,
// so that the file has the wanted size and what its rounding costs is least. The costs of different
// matrices add up, which holds to about a tenth for divergences below 0.1 nats.
namespace calque::job {

// The plan of one of the job's exports, as its settings say. Errors as formats::plan_export.
formats::ExportPlan plan_of_export(const Job& job, const formats::SourceModel& source,
                                   const formats::ExportRequest& request);

// Matrices that take the same option: in folders the linears of one site, which servers fuse, and
// the same linears of all experts; in a GGUF file one tensor.
struct SizedPart {
  std::string name;                    // "model.layers.3 attn_in", "blk.3.ffn_down.weight"
  Index block = -1;                    // -1: embedding or head
  std::vector<std::string> weights;    // names of the tensors
  std::vector<std::uint64_t> bytes_O;  // with each option
};

// The choice that a target size leaves. Parts whose bytes no option changes, because a rule or a
// key fixes them, are not among `parts`.
struct SizeProblem {
  std::vector<std::string> options;          // ascending in bytes
  std::vector<formats::ExportPlan> plans_O;  // every part with this option
  std::vector<SizedPart> parts;    // in order of execution; the embedding first, the head last
  std::uint64_t fixed_bytes = 0;   // everything else
  std::uint64_t budget_bytes = 0;  // for the tensors, parts and everything else together

  std::uint64_t least_bytes() const;
  std::uint64_t most_bytes() const;
  // Takes `bytes` that the files of `target` bytes hold besides tensors from the budget. E136 if
  // too few are left.
  void keep_for_others(std::uint64_t bytes, std::uint64_t target);
};

// Error(kConfig): "E135" for a job that cannot choose (several exports, a scheme, no text, a format
// with one width), "E136" for a target out of reach, with the sizes between which it must lie; and
// what plan_export says of a named option.
SizeProblem size_problem(const Job& job, const formats::SourceModel& source);

// An option for each part, given what each would cost: the least sum within the budget, but for at
// most the gain of one step of one part. `cost_PO`: finite, not negative.
std::vector<std::size_t> choose_options(const SizeProblem& problem,
                                        const std::vector<std::vector<double>>& cost_PO);

// Costs as they would be if all weights were equally sensitive: a quarter with each bit.
std::vector<std::vector<double>> even_costs(const SizeProblem& problem);

// The job with the choice as rules (folders: before its own, which stay stronger; GGUF: after them)
// and without the target.
Job with_choice(const Job& job, const SizeProblem& problem,
                const std::vector<std::size_t>& option_P);

// The rules alone: one for the same matrices of all blocks in which they take the same option.
std::vector<formats::ModuleRule> module_rules(const SizeProblem& problem,
                                              const std::vector<std::size_t>& option_P);
std::vector<formats::TensorTypeRule> type_rules(const SizeProblem& problem,
                                                const std::vector<std::size_t>& option_P);

}  // namespace calque::job
