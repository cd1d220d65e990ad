#include "calque/job/allocation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "calque/core/error.h"
#include "support/paths.h"

namespace calque::job {
namespace {

using Costs = std::vector<std::vector<double>>;

SizeProblem problem_of(std::vector<std::vector<std::uint64_t>> bytes_PO, std::uint64_t budget) {
  SizeProblem problem;
  problem.fixed_bytes = 100;
  problem.budget_bytes = 100 + budget;
  for (std::vector<std::uint64_t>& bytes_O : bytes_PO)
    problem.parts.push_back({.name = "part", .bytes_O = std::move(bytes_O)});
  return problem;
}

struct Outcome {
  std::uint64_t bytes = 0;
  double cost = 0;
};

Outcome outcome_of(const SizeProblem& problem, const Costs& cost_PO,
                   const std::vector<std::size_t>& option_P) {
  Outcome outcome{problem.fixed_bytes, 0};
  for (std::size_t p = 0; p < option_P.size(); ++p) {
    outcome.bytes += problem.parts[p].bytes_O[option_P[p]];
    outcome.cost += cost_PO[p][option_P[p]];
  }
  return outcome;
}

// The least cost of all choices within the budget.
double least_cost(const SizeProblem& problem, const Costs& cost_PO) {
  double least = 1e300;
  std::vector<std::size_t> option_P(problem.parts.size(), 0);
  for (;;) {
    const Outcome outcome = outcome_of(problem, cost_PO, option_P);
    if (outcome.bytes <= problem.budget_bytes) least = std::min(least, outcome.cost);
    std::size_t p = 0;
    while (p < option_P.size() && ++option_P[p] == problem.parts[p].bytes_O.size())
      option_P[p++] = 0;
    if (p == option_P.size()) return least;
  }
}

// 2 bytes more save 6 (3 a byte) in the first part, 8 (4 a byte) and then 1 in the second.
TEST(ChooseOptions, TakesTheStepThatSavesMostAByte) {
  const SizeProblem problem = problem_of({{2, 4}, {2, 4, 6}}, 6);
  const Costs cost_PO = {{7, 1}, {10, 2, 1}};
  EXPECT_EQ(choose_options(problem, cost_PO), (std::vector<std::size_t>{0, 1}));
}

// The step of 3 a byte does not fit any more; the one of half a byte does.
TEST(ChooseOptions, UsesBytesThatAreLeftForASmallerStep) {
  const SizeProblem problem = problem_of({{2, 8}, {2, 4}}, 7);
  const Costs cost_PO = {{20, 2}, {2, 1}};
  EXPECT_EQ(choose_options(problem, cost_PO), (std::vector<std::size_t>{0, 1}));
}

// Its larger option costs more: a rounding that went wrong.
TEST(ChooseOptions, NeverPaysBytesForAWorseOption) {
  const SizeProblem problem = problem_of({{2, 4}, {2, 4}}, 100);
  const Costs cost_PO = {{1, 3}, {5, 4}};
  EXPECT_EQ(choose_options(problem, cost_PO), (std::vector<std::size_t>{0, 1}));
}

TEST(ChooseOptions, IsWithinOneStepOfTheBestOfAllChoices) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> unit(0, 1);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<std::vector<std::uint64_t>> bytes_PO;
    Costs cost_PO;
    double step = 0;
    std::uint64_t least = 0, most = 0;
    for (int p = 0; p < 7; ++p) {
      const auto weights = static_cast<std::uint64_t>(10 + 90 * unit(random));
      const double sensitivity = std::exp(6 * unit(random));
      std::vector<std::uint64_t>& bytes_O = bytes_PO.emplace_back();
      std::vector<double>& cost_O = cost_PO.emplace_back();
      for (const int bits : {2, 3, 4, 6}) {
        bytes_O.push_back(weights * static_cast<std::uint64_t>(bits));
        cost_O.push_back(sensitivity * std::exp2(-2 * bits) * (0.8 + 0.4 * unit(random)));
        if (cost_O.size() > 1) step = std::max(step, cost_O[cost_O.size() - 2] - cost_O.back());
      }
      least += bytes_O.front();
      most += bytes_O.back();
    }
    const auto budget =
        least + static_cast<std::uint64_t>(unit(random) * static_cast<double>(most - least));
    const SizeProblem problem = problem_of(bytes_PO, budget);
    const Outcome chosen = outcome_of(problem, cost_PO, choose_options(problem, cost_PO));
    EXPECT_LE(chosen.bytes, problem.budget_bytes);
    EXPECT_LE(chosen.cost, least_cost(problem, cost_PO) + step) << "trial " << trial;
  }
}

// ---- From a job

Job sized_job(const std::string& format) {
  Job job;
  job.model.path = test::demo_model();
  job.calibration.tokens = "tokens.safetensors";
  formats::ExportRequest request;
  request.format = format;
  request.path = "out";
  request.type = "Q4_K_M";
  job.exports = {request};
  job.quantization.allocation.target_bpw = format == "gguf" ? 3.2 : 7.0;
  return job;
}

const formats::SourceModel& demo() {
  static const formats::SourceModel source(test::demo_model());
  return source;
}

std::string refusal(const Job& job) {
  try {
    size_problem(job, demo());
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
  return "";
}

// Six layers of four sites. The embedding and the head of a folder are not rounded.
TEST(SizeProblem, HasAPartForEverySiteOfAFolder) {
  const SizeProblem problem = size_problem(sized_job("gptq"), demo());
  ASSERT_EQ(problem.parts.size(), 24U);
  EXPECT_EQ(problem.parts.front().name, "model.layers.0 attn_in");
  EXPECT_EQ(problem.parts.front().weights,
            (std::vector<std::string>{"model.layers.0.self_attn.q_proj.weight",
                                      "model.layers.0.self_attn.k_proj.weight",
                                      "model.layers.0.self_attn.v_proj.weight"}));
}

// Six layers of seven matrices, embedding and head.
TEST(SizeProblem, HasAPartForEveryMatrixOfAGgufFile) {
  const SizeProblem problem = size_problem(sized_job("gguf"), demo());
  ASSERT_EQ(problem.parts.size(), 44U);
  EXPECT_EQ(problem.parts.front().name, "token_embd.weight");
  EXPECT_EQ(problem.parts.back().name, "output.weight");
}

TEST(SizeProblem, LeavesOutWhatRulesAndKeysFix) {
  Job folder = sized_job("gptq");
  folder.quantization.grid.rules = {{.match = "re:.*mlp", .bits = 8}};
  folder.quantization.allocation.target_bpw = 9.8;
  EXPECT_EQ(size_problem(folder, demo()).parts.size(), 12U);
  Job file = sized_job("gguf");
  file.quantization.allocation.target_bpw = 4.5;
  file.exports[0].embedding_type = "Q6_K";
  file.exports[0].tensor_types = {{"ffn_", "Q4_K"}};
  EXPECT_EQ(size_problem(file, demo()).parts.size(), 44U - 1 - 18);
}

TEST(SizeProblem, CountsEveryByteOfTheFile) {
  for (const char* const format : {"gptq", "gguf"}) {
    const Job job = sized_job(format);
    const SizeProblem problem = size_problem(job, demo());
    for (std::size_t o = 0; o < problem.options.size(); ++o) {
      const std::vector<std::size_t> option_P(problem.parts.size(), o);
      std::uint64_t bytes = problem.fixed_bytes;
      for (const SizedPart& part : problem.parts) bytes += part.bytes_O[o];
      const Job chosen = with_choice(job, problem, option_P);
      EXPECT_EQ(plan_of_export(chosen, demo(), chosen.exports[0]).tensor_bytes, bytes)
          << format << ' ' << problem.options[o];
    }
  }
}

TEST(SizeProblem, KeepsOptionsNextToTheTarget) {
  Job job = sized_job("gguf");
  EXPECT_EQ(size_problem(job, demo()).options,
            (std::vector<std::string>{"Q2_K", "Q3_K", "Q4_K", "Q5_K"}));
  job.quantization.allocation.options = {"Q6_K", "Q2_K"};
  EXPECT_EQ(size_problem(job, demo()).options, (std::vector<std::string>{"Q2_K", "Q6_K"}));
}

TEST(SizeProblem, NamesTheSizesBetweenWhichATargetLies) {
  Job job = sized_job("gptq");
  job.quantization.allocation.target_bpw = 2.5;
  const std::string message = refusal(job);
  EXPECT_NE(message.find("E136: quantization.target_bpw is 2.5, but with options 2, 3, 4 the file "
                         "has at least"),
            std::string::npos)
      << message;
}

TEST(SizeProblem, RefusesJobsThatCannotChoose) {
  Job two = sized_job("gguf");
  two.exports.push_back(two.exports[0]);
  EXPECT_EQ(refusal(two).substr(0, 4), "E135");
  Job awq = sized_job("awq");
  EXPECT_EQ(refusal(awq).substr(0, 4), "E135");
  Job no_text = sized_job("gguf");
  no_text.calibration.tokens.clear();
  EXPECT_EQ(refusal(no_text).substr(0, 4), "E135");
  Job both = sized_job("gguf");
  both.quantization.allocation.target_size = 3'000'000;
  EXPECT_EQ(refusal(both).substr(0, 4), "E135");
  Job word = sized_job("gptq");
  word.quantization.allocation.options = {"Q2_K", "Q3_K"};
  EXPECT_EQ(refusal(word).substr(0, 4), "E135");
}

// ---- Rules

TEST(ChoiceAsRules, JoinsTheBlocksThatChooseTheSame) {
  SizeProblem problem;
  problem.options = {"2", "3"};
  for (const char* const number : {"0", "1", "10"})
    problem.parts.push_back(
        {.name = std::string("model.layers.") + number + " mlp_out",
         .weights = {std::string("model.layers.") + number + ".mlp.down_proj.weight"}});
  const std::vector<formats::ModuleRule> rules = module_rules(problem, {0, 1, 0});
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_EQ(rules[0].match, "re:model\\.layers\\.(0|10)\\.mlp\\.down_proj$");
  EXPECT_EQ(rules[0].bits, 2);
  EXPECT_EQ(rules[1].match, "re:model\\.layers\\.1\\.mlp\\.down_proj$");
  EXPECT_EQ(rules[1].bits, 3);
}

TEST(ChoiceAsRules, MeansAllExpertsOfALayer) {
  SizeProblem problem;
  problem.options = {"2", "3"};
  problem.parts.push_back({.name = "model.layers.4 expert_out",
                           .weights = {"model.layers.4.mlp.experts.0.down_proj.weight",
                                       "model.layers.4.mlp.experts.11.down_proj.weight"}});
  const std::vector<formats::ModuleRule> rules = module_rules(problem, {1});
  ASSERT_EQ(rules.size(), 1U);
  EXPECT_EQ(rules[0].match, "re:model\\.layers\\.4\\.mlp\\.experts\\.[0-9]+\\.down_proj$");
}

TEST(ChoiceAsRules, LeavesTheJobsOwnRulesStronger) {
  Job folder = sized_job("gptq");
  folder.quantization.grid.rules = {{.match = "*.q_proj", .group_size = 64}};
  const SizeProblem problem = size_problem(folder, demo());
  const Job chosen =
      with_choice(folder, problem, std::vector<std::size_t>(problem.parts.size(), 0));
  EXPECT_EQ(chosen.quantization.grid.rules.back().match, "*.q_proj");
  EXPECT_FALSE(chosen.quantization.allocation.wanted());
}

}  // namespace
}  // namespace calque::job
