#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "calque/eval/evaluate.h"
#include "calque/formats/reader.h"
#include "calque/job/job.h"
#include "calque/job/task_questions.h"
#include "calque/job/tokens.h"
#include "calque/record/observer.h"
#include "calque/record/report.h"

namespace calque::pipeline {

struct EvaluationWork {
  const job::EvaluationSettings& settings;
  job::Tokens& tokens;  // made with the original's tokenizer
  eval::EvalModel original;
  std::vector<eval::EvalModel> artifacts;
  forward::RunnerOptions runner;  // dtype applies to every model except the noise floor
  std::shared_ptr<eval::ReferenceStates> reference_states = nullptr;  // eval/evaluate.h
  // The first reports, if an earlier process has finished them.
  std::vector<record::EvaluationReport> finished = {};
  // Receives each report that is finished here; may be empty.
  std::function<void(const record::EvaluationReport&)> keep = nullptr;
  // The tasks, and the same for them.
  std::vector<job::TaskQuestions> tasks = {};
  std::vector<record::TaskReport> finished_tasks = {};
  std::function<void(const record::TaskReport&)> keep_task = nullptr;
};

// An artifact as it is evaluated: its weights, and what a server does to the linears' inputs.
eval::EvalModel evaluated(std::string label, const formats::ArtifactReader& artifact);

// The models that are compared with the original: it in bfloat16 if that is asked for, the
// artifacts, and for each cache the original and the artifacts again.
std::vector<eval::EvalModel> compared_models(const EvaluationWork& work,
                                             const std::vector<eval::KvCacheSpec>& caches);

// Evaluates all models on each text, one text after the other (the order of Report::evaluations).
// Each text is a phase for the observer.
std::vector<record::EvaluationReport> evaluate_texts(const EvaluationWork& work,
                                                     record::Observer& observer);

}  // namespace calque::pipeline
