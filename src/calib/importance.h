#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/writer.h"
#include "calque/quant/input_stats.h"
#include "calque/io/imatrix.h"
#include "calque/io/state_file.h"
#include "calque/model/family.h"
#include "calque/job/job.h"

namespace calque::calib {

// Importance from a file (quantization.imatrix), fitted to the model's matrices.
class Importance {
 public:
  // Error(kInput) where the file holds another size for a matrix, or nothing for any of them: it
  // was measured on another model. `name`: of the file, for messages.
  Importance(io::Imatrix imatrix, const model::FamilySpec& family, std::string name);

  // What the inputs of this matrix count; empty statistics for one that the file does not hold.
  const quant::InputStats& stats_of(const model::TensorSpec& weight) const;
  // One line about the matrices of the blocks that the file does not hold; "": it holds all.
  std::string warning() const;
  formats::ImatrixNote note() const;

 private:
  void take(const model::TensorSpec& weight, Index matrices, bool strict);

  io::Imatrix imatrix_;
  std::string name_;
  std::map<std::string, quant::InputStats> stats_;  // by Hugging Face name
  std::vector<std::string> missing_;                // GGUF names, once each
};

// Refuses settings that do not go together with quantization.imatrix, or calibration.save_imatrix.
void check_imatrix_settings(const job::Job& job, const model::FamilySpec& family);

// Refuses to replace a file at calibration.save_imatrix that may not be.
void check_saved_imatrix(const job::Job& job);

// None without quantization.imatrix.
std::optional<Importance> load_importance(const job::Job& job, const model::FamilySpec& family);

// What a GGUF file says of the importance that its matrices were rounded by: the file's, or what
// `chunks` rows of calibration text gave; none for a plan without matrices of block types.
std::optional<formats::ImatrixNote> imatrix_note(const job::Job& job, const model::FamilySpec& family,
                                                  const formats::ExportPlan& plan,
                                                  const std::optional<Importance>& importance,
                                                  Index chunks);

// Keeps what a calibrated pass measures (calibration.save_imatrix).
class ImatrixRecorder {
 public:
  // Of one site, once.
  void add(const model::BlockSpec& block, const model::SiteSpec& site,
           const quant::InputStats& stats);
  bool written() const { return written_; }
  void write(const job::Job& job, Index chunks, Index chunk_size);
  // An earlier process has written the file.
  void mark_written() { written_ = true; }
  void save(const io::ByteSink& sink) const;
  void load(const io::ByteSource& source);

 private:
  io::Imatrix imatrix_;
  bool written_ = false;
};

}  // namespace calque::calib
