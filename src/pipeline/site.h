#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "calque/quant/rounder.h"
#include "calque/quant/upstream.h"
#include "calque/resume/progress.h"
#include "pipeline/channel_scales.h"
#include "pipeline/pass.h"

namespace calque::pipeline {

// Whether every matrix of the pass can be rounded a strip of rows at a time: no activations are
// needed, and all grids are GGUF blocks, which know nothing of other rows.
bool rounds_by_rows(const Pass& pass);

// Rounds the readers of one site after another and hands them to the writers; the state of a pass
// that outlives its blocks.
class SiteRounding {
 public:
  explicit SiteRounding(const Pass& pass);

  // Puts the values that the artifact's function has in place of the site's weights. `hidden`: what
  // the block is running on, null when it is not running.
  void round_site(const model::BlockSpec& block, const model::SiteSpec& site,
                  quant::InputStats stats, model::BlockWeights& weights,
                  const forward::HiddenStates* hidden);
  // Before round_site: the readers' weights become what makes up best for the inputs' shift.
  void correct_site(const model::BlockSpec& block, const model::SiteSpec& site,
                    const quant::InputStats& stats, quant::InputShift shift,
                    model::BlockWeights& weights);
  // All linears of the block, if rounds_by_rows.
  void round_block_by_rows(const model::BlockSpec& block);
  // After the last site: writes what was held back for folds, and the tensors that they changed.
  void finish_block();
  // Tensors that no site feeds (embedding, head): rounded to nearest. Those that are not yet; or
  // one of them, whose values are returned.
  void round_outside_blocks();
  Matrix<float> round_outside_blocks(const formats::TensorPlan& planned);

  // Between two blocks, nothing else is kept.
  const resume::RoundingState& state() const { return state_; }
  void restore(resume::RoundingState state);

 private:
  // Calibration rows of a site.
  struct SeenTokens {
    Index tokens = 0;
    Index nonfinite = 0;
  };

  void round_rows(const formats::TensorPlan& planned, const quant::Rounder& rounder,
                  const quant::InputStats& stats, record::ModuleReport report);
  void write_rows(const std::string& tensor, Index first_row, const quant::QuantizedMatrix& rows);
  Matrix<float> round_and_write(const quant::SiteRounder& round_one, const std::string& tensor,
                                bool hold, Matrix<float> weight_NK, record::ModuleReport& report);
  void write(const std::string& tensor, const quant::QuantizedMatrix& q);
  void write_dense(const std::string& tensor, MatrixView<const float> values);
  void absorb(const model::FoldSpec& fold, std::span<const float> scales_K,
              model::BlockWeights& weights);
  // The block's tensor as the folds so far have changed it.
  Matrix<float>& changed(const std::string& tensor, const model::BlockWeights& weights);
  void scale_unrounded(const model::FoldSpec& fold, std::span<const float> scales_K,
                       const model::BlockWeights& weights);
  void finish_module(const record::ModuleReport& report);
  void warn_about_uncorrected(const model::BlockSpec& block, const model::SiteSpec& site,
                              const quant::InputStats& stats);
  void warn_about_nonfinite(const model::BlockSpec& block, const model::SiteSpec& site,
                            const SeenTokens& seen);

  const Pass& pass_;
  quant::Rounder rounder_;
  quant::Rounder plain_;
  quant::Rounder plain_blocks_;
  ChannelScales channel_scales_;
  // Rounded linears whose rows a later fold of the block may still divide.
  std::map<std::string, quant::QuantizedMatrix> held_;
  std::map<std::string, Matrix<float>> changed_;   // unrounded tensors that folds changed
  std::vector<const model::FoldSpec*> absorbed_;   // folds of this block that are done
  std::map<std::string, double> upstream_shifts_;  // of the site's linears, |W* - W| / |W|
  std::set<std::string> rounded_outside_;
  resume::RoundingState state_;
  Index fallbacks_ = 0;
};

}  // namespace calque::pipeline
