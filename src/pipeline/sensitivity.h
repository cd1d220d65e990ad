#pragma once

#include <memory>
#include <vector>

#include "calque/io/scratch.h"
#include "calque/job/allocation.h"
#include "calque/pipeline/open_job.h"
#include "calque/record/observer.h"
#include "calque/record/stages.h"
#include "calque/text/corpus.h"

namespace calque::pipeline {

struct SensitivityInputs {
  const OpenedJob& opened;
  const job::SizeProblem& problem;
  // Rows that the statistics of the linears' inputs come from, and those that the divergence is
  // measured on; none: the costs are the linears' own errors.
  const text::TokenBlocks& calibration;
  const text::TokenBlocks& windows;
  std::shared_ptr<io::ScratchSpace> scratch;  // holds the hidden states
  record::Observer& observer;
  record::StageSeconds& stages;  // the seconds are added to these
};

// The rounding that costs are measured with: the job's, without refinement, which gains about the
// same share with every option and takes most of the time.
quant::RoundingOptions sensitivity_options(const job::QuantizationSettings& settings);

// The cost of every option for every part (job/allocation.h), in one pass over the blocks of the
// original model. Each matrix is rounded with each option, by sensitivity_options() under the
// statistics of its inputs, and the squared errors of its outputs are summed: e. With windows, the
// model then goes on with one part alone rounded to the smallest option, and its divergence from
// the original after the last block, d, fixes the unit: an option costs d e / e_smallest. So a part
// costs one run of the windows from its block on. d is the geometric mean over the windows: a text
// that the model hardly knows, whose divergence is many times the others', would choose alone.
// Memory: a block's weights twice, one site's Gram matrix and factor, a window set's hidden states
// for each part (in `scratch`).
std::vector<std::vector<double>> measure_sensitivities(const SensitivityInputs& inputs);

}  // namespace calque::pipeline
