#pragma once

#include <memory>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/source.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "calque/job/job.h"

namespace calque::pipeline {

// The model as opened and checked: what planning and every pass read.
struct SourceModel {
  // A folder or a GGUF file; see formats::open_model.
  explicit SourceModel(const std::filesystem::path& path, bool allow_requantize = false);

  std::unique_ptr<model::ModelSource> weights;
  model::FamilySpec family;
  io::GgufMetadata metadata;  // of a GGUF file; empty for a folder

  bool is_gguf() const { return !metadata.empty(); }
  double bits_per_weight() const;  // as stored

 private:
  explicit SourceModel(formats::OpenedModel opened);
};

// What is at the paths that the job writes already.
enum class Targets {
  kOthers,  // refused, unless it may be overwritten
  kOwnToo,  // of this run, which goes on: left alone
};
std::vector<formats::ExportPlan> plan_exports(const job::Job& job, const SourceModel& source,
                                               Targets targets = Targets::kOthers);

// Exports that one pass over the model can serve: each set has the same grid for every tensor.
// Indices into `plans`, in order.
std::vector<std::vector<std::size_t>> group_by_grids(
    const std::vector<formats::ExportPlan>& plans);

}  // namespace calque::pipeline
