#pragma once

#include <memory>
#include <optional>

#include "calque/forward/block_runner.h"
#include "pipeline/pass.h"
#include "calib/reference_stream.h"
#include "pipeline/site_rounding.h"

namespace calque::pipeline {

// The calibration text on its way through the models, between two blocks.
struct Streams {
  std::unique_ptr<forward::HiddenStates> hidden;  // null: nothing is run
  std::optional<calib::ReferenceStream> reference;
};

// Of a pass that an earlier process began (pass.state): what it had finished, to go on with block
// `blocks`. Error(kInput): "E307", "E308" where what it saved is damaged or gone.
struct ResumedPass {
  Index blocks = 0;
  bool complete = false;
};
ResumedPass resume_pass(const Pass& pass, SiteRounding& rounding, Streams& streams);

// The modules of a pass that was complete, as its plan says their grids.
std::vector<record::ModuleReport> with_grids(std::vector<record::ModuleReport> modules,
                                     const model::FamilySpec& family,
                                     const formats::ExportPlan& plan);

// After a block: saves what going on from here needs, if that is due.
void save_if_due(const Pass& pass, const SiteRounding& rounding, const Streams& streams,
                 Index blocks);
// After everything was given to the writers.
void save_complete(const Pass& pass, const SiteRounding& rounding);

}  // namespace calque::pipeline
