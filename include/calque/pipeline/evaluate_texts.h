#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "calque/eval/evaluate.h"
#include "calque/pipeline/job.h"
#include "calque/pipeline/observer.h"
#include "calque/pipeline/report.h"
#include "calque/pipeline/shared_work.h"

namespace calque::pipeline {

// What is wrong with the section, before any work: Error(kConfig, "E206") for texts that are given
// twice or not at all, "E242" for names; Error(kInput, "E202") for files that are not there.
void check_evaluation(const EvaluationSettings& settings);

struct EvaluationWork {
  const EvaluationSettings& settings;
  std::filesystem::path tokenizer;  // of the original: folder or GGUF file
  eval::EvalModel original;
  std::vector<eval::EvalModel> artifacts;
  model::RunnerOptions runner;  // dtype: of every model but the noise floor
  std::shared_ptr<eval::ReferenceStates> reference_states = nullptr;  // eval/evaluate.h
  SharedWork* shared = nullptr;  // where other jobs may have put the tokens; null: nowhere
};

// All models over each text, one text after the other (the order of Report::evaluations). Each is a
// phase of the observer's.
std::vector<EvaluationReport> evaluate_texts(const EvaluationWork& work, Observer& observer);

}  // namespace calque::pipeline
