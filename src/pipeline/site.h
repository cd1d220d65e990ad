#pragma once

#include <map>
#include <optional>
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

// True if every matrix of the pass can be rounded in strips of rows: no activations are needed, and
// all grids are GGUF blocks, which do not depend on other rows.
bool rounds_by_rows(const Pass& pass);

// Rounds the readers of one site after another and passes them to the writers. Holds the state of a
// pass that outlives its blocks.
class SiteRounding {
 public:
  explicit SiteRounding(const Pass& pass);

  // Replaces the site's weights by those of the artifact's function. `hidden` holds the input of
  // the running block; null if the block is not running.
  void round_site(const model::BlockSpec& block, const model::SiteSpec& site,
                  quant::InputStats stats, model::BlockWeights& weights,
                  const forward::HiddenStates* hidden);
  // Call before round_site: changes the readers' weights to compensate the inputs' shift.
  void correct_site(const model::BlockSpec& block, const model::SiteSpec& site,
                    const quant::InputStats& stats, quant::InputShift shift,
                    model::BlockWeights& weights);
  // Rounds all linears of the block; requires rounds_by_rows.
  void round_block_by_rows(const model::BlockSpec& block);
  // Call after the last site: writes tensors held back for folds, and the tensors that folds
  // changed.
  void finish_block();
  // Rounds lm_head under the statistics of its inputs; with `shift`, corrected for it.
  void round_head(quant::InputStats stats, std::optional<quant::InputShift> shift);
  // Round tensors whose inputs are not measured (the embedding) to nearest: all that are not
  // rounded yet, or one of them, returning its values.
  void round_outside_blocks();
  Matrix<float> round_outside_blocks(const formats::TensorPlan& planned);

  // The only state between two blocks.
  const resume::RoundingState& state() const { return state_; }
  void restore(resume::RoundingState state);

 private:
  void round_rows(const formats::TensorPlan& planned, const quant::Rounder& rounder,
                  quant::InputStats stats, record::ModuleReport report,
                  const quant::UpstreamCorrection* correction = nullptr);
  std::optional<quant::UpstreamCorrection> correction_for(const model::BlockSpec& block,
                                                          const model::SiteSpec& site,
                                                          const quant::InputStats& stats,
                                                          quant::InputShift shift);
  std::span<const Index> column_order_of(const model::SiteSpec& site) const;
  void write_rows(const std::string& tensor, Index first_row, const quant::QuantizedMatrix& rows);
  Matrix<float> round_and_write(const quant::SiteRounder& round_one, const std::string& tensor,
                                bool hold, Matrix<float> weight_NK, record::ModuleReport& report,
                                float input_peak = 0);
  // The scale of the site's readers that runtimes fuse; 0: they share none.
  float shared_scale(const model::SiteSpec& site, const quant::InputStats& stats,
                     const model::BlockWeights& weights) const;
  void write(const std::string& tensor, const quant::QuantizedMatrix& q);
  void write_dense(const std::string& tensor, MatrixView<const float> values);
  void absorb(const model::FoldSpec& fold, std::span<const float> scales_K,
              model::BlockWeights& weights);
  // The block's tensor as changed by the folds so far.
  Matrix<float>& changed(const std::string& tensor, const model::BlockWeights& weights);
  void scale_unrounded(const model::FoldSpec& fold, std::span<const float> scales_K,
                       const model::BlockWeights& weights);
  void finish_module(record::ModuleReport report);
  // The reason for a fallback that no rounder can know of; empty if there is none.
  std::string_view missing_statistics(const record::ModuleReport& report) const;
  void warn_about_uncorrected(const model::BlockSpec& block, const model::SiteSpec& site,
                              const quant::InputStats& stats);

  const Pass& pass_;
  quant::Rounder rounder_;
  quant::Rounder plain_;     // to nearest
  quant::Rounder unscaled_;  // the job's method, for matrices whose channels are not rescaled
  ChannelScales channel_scales_;
  // Rounded linears whose rows a later fold of the block may still divide.
  HeldMatrices held_;
  std::map<std::string, Matrix<float>> changed_;   // unrounded tensors that folds changed
  std::vector<const model::FoldSpec*> absorbed_;   // folds of this block that are done
  std::map<std::string, double> upstream_shifts_;  // |W* - W| / |W| of the site's linears
  std::set<std::string> rounded_outside_;
  resume::RoundingState state_;
  Index fallbacks_ = 0;
};

}  // namespace calque::pipeline
