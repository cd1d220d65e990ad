#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "calque/eval/evaluate.h"
#include "calque/job/job.h"
#include "calque/pipeline/observer.h"
#include "calque/record/report.h"
#include "calque/resume/shared_work.h"

namespace calque::resume {
class SharedWork;
}
namespace calque::pipeline {

// What is wrong with the section, before any work: Error(kConfig, "E206") for texts that are given
// twice or not at all, "E242" for names; Error(kInput, "E202") for files that are not there.
void check_evaluation(const job::EvaluationSettings& settings);

struct EvaluationWork {
  const job::EvaluationSettings& settings;
  std::filesystem::path tokenizer;  // of the original: folder or GGUF file
  eval::EvalModel original;
  std::vector<eval::EvalModel> artifacts;
  forward::RunnerOptions runner;  // dtype: of every model but the noise floor
  std::shared_ptr<eval::ReferenceStates> reference_states = nullptr;  // eval/evaluate.h
  resume::SharedWork* shared = nullptr;  // where other jobs may have put the tokens; null: nowhere
};

// All models over each text, one text after the other (the order of Report::evaluations). Each is a
// phase of the observer's.
std::vector<record::EvaluationReport> evaluate_texts(const EvaluationWork& work, Observer& observer);

}  // namespace calque::pipeline
