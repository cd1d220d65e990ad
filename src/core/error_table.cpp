#include "calque/core/error_table.h"

#include <algorithm>

namespace calque {
namespace {

constexpr ErrorEntry kErrors[] = {
    // the command line
    {"E001", 2, "The command line is not valid.",
     "An unknown command, an option that does not exist, or a missing argument.",
     "See calque COMMAND --help, which has examples."},

    // the job file: its text
    {"E101", 2, "A key of the file is unknown.",
     "Keys are never ignored: with a typo such as 'group_sze', a job would otherwise run with "
     "settings that you did not ask for. The message gives file:line:column and the nearest "
     "existing key.",
     "Correct the spelling. 'calque schema' lists every key."},
    {"E102", 2, "A key is written twice.",
     "YAML readers silently use the first or the last value; calque uses neither.",
     "Remove one of the two; the message gives both lines."},
    {"E103", 2, "A key is another tool's name for something that calque calls differently.",
     "Such keys (w_bit, zero_point, nsamples, ...) are recognized only for this hint and never "
     "translated, because defaults and meanings differ: zero_point: true means sym: false.",
     "Write the key that the message names."},
    {"E104", 2, "The file is not valid YAML, or uses a YAML feature that job files do not allow.",
     "Job files contain maps, lists and plain values only. Anchors, tags, merge keys (<<) and "
     "several documents are refused, because readers disagree on their meaning.",
     "Correct the place that the message names, or write the values out."},
    {"E105", 2, "A value has the wrong type, such as text in place of a number.",
     "Quoted numbers are text. A section (key: value) is not a list (- entry).",
     "Write the type of value that the message asks for."},
    {"E106", 2, "A number is outside the range of its key.", "",
     "Choose a value in the range that the message gives."},
    {"E107", 2, "A value is not one of the names that the key accepts.", "",
     "Choose one of the names in the message; 'calque schema' lists them, too."},
    {"E108", 2, "A key that cannot be left out is missing.", "",
     "Add the key that the message names. configs/ holds complete examples."},
    {"E109", 2, "Two keys exclude each other, or one has no effect next to the other.",
     "A setting without effect would look as if it had been applied.",
     "Remove the one that the message names."},
    {"E110", 2, "This version of calque cannot read the file's version.", "",
     "Write version: 1, or use the version of calque that the file was written for."},
    {"E111", 2, "The job file cannot be read.",
     "It does not exist, is a folder, cannot be read with your permissions, or is larger than 1 "
     "MiB.",
     "Check the path and its permissions."},

    // the job file: methods and devices
    {"E112", 2, "The quantization method is unknown.", "",
     "Choose one of those that `calque schema` lists for quantization.method."},
    {"E113", 2, "awq.loss: output cannot be combined with propagate_error: false.",
     "This loss runs parts of a block on its inputs, which are not kept if all statistics come "
     "from the original model.",
     "Use awq.loss: gram, or propagate_error: true."},
    {"E114", 2, "quantization.imatrix does not apply to this job.",
     "An importance matrix states the importance of each column. GPTQ and AWQ measure it from "
     "calibration text instead, and only GGUF's block types can use it.",
     "Set method: rtn and export gguf, or remove quantization.imatrix."},
    {"E115", 2, "calibration.save_imatrix has nothing to save.",
     "It stores statistics of the calibration text, and the job has no such text.",
     "Give calibration.sources or calibration.tokens, or remove the key."},
    {"E116", 2, "quantization.upstream_correction cannot be applied in this job.",
     "It changes weights before GPTQ rounds them, to compensate errors of earlier blocks. This "
     "needs GPTQ, calibration text and propagate_error: true.",
     "Remove the key, or change the setting that the message names."},
    {"E117", 2, "The key no longer exists.",
     "It set a value that is better chosen automatically, or duplicated another key.",
     "Write the replacement in the message instead."},
    {"E119", 2, "The target of calque quantize is unknown, or cannot be made this way.",
     "A target is a name such as gptq-4bit, awq or Q4_K_M, for which calque chooses the settings. "
     "One job rounds all folders alike, so targets with different grids need a job each.",
     "Use a name of the message, or run the command once for each target."},
    {"E121", 2, "The format cannot store this bit width.",
     "'awq' stores 4-bit weights only; each container has its own list.",
     "Use a width that the format stores, or another format: gptq stores 2, 3, 4 and 8 bits, gguf "
     "has types from Q2_K to Q8_0."},
    {"E122", 2, "An export format, or one of its types, is unknown.", "",
     "Use the nearest name in the message, or one of those that it lists."},
    {"E123", 2, "The model cannot be written in this format.",
     "GGUF files describe a model with keys specific to its architecture. Some families, or some "
     "of their settings (a kind of RoPE, a bias), have no such keys.",
     "Export gptq, awq or compressed-tensors, which keep config.json as it is."},
    {"E124", 2, "A rule quantizes lm_head, which is the embedding.",
     "With tie_word_embeddings: true the model has no separate lm_head.weight, and folders do not "
     "quantize the embedding.",
     "Remove skip: false from the rule for lm_head."},
    {"E125", 2, "The rules skip every module.", "There would be nothing to quantize.",
     "Remove a rule with skip: true, or narrow its pattern."},
    {"E126", 2, "A folder cannot be made from this GGUF file.",
     "Folders need config.json and the tokenizer's files. They are made from the file's metadata, "
     "where calque knows its tokenizer and can write its settings.",
     "Start from the model's original folder, or export gguf."},
    {"E127", 2, "The device named for a stage lacks an operation that the method needs.",
     "auto chooses a device that supports everything; a device named in the job is not replaced.",
     "Set the stage to cpu or auto (runtime.stages). 'calque doctor' lists the devices' "
     "operations."},
    {"E128", 2, "The device named for a stage does not exist here.",
     "There is no such GPU or no driver, or calque lacks its CUDA plug-in.",
     "Set the stage to cpu or auto. 'calque doctor' lists the devices, and why others are "
     "missing."},
    {"E129", 2, "The forward pass cannot run on that GPU.",
     "LibTorch runs it, and this LibTorch finds no such GPU; it may be built without CUDA.",
     "Set runtime.stages.forward: cpu, or build with a CUDA LibTorch."},
    {"E130", 2, "The program cannot use an instruction set that it needs, or was told to use.",
     "calque needs a processor with x86-64-v3 (AVX2, FMA, F16C, BMI; Intel since Haswell, AMD "
     "since "
     "Excavator). CALQUE_ISA forces avx2, avx512 or amx, if the processor has them; a build with "
     "CALQUE_NATIVE=ON has the one set of the machine that built it.",
     "Unset CALQUE_ISA, or name one of the sets that the message or 'calque doctor' lists."},
    {"E131", 2, "group_size does not divide the inputs of some modules.",
     "All groups must have the same size. The message names the modules, factors their width, and "
     "lists the sizes that fit all of them.",
     "Use one of these sizes; -1 (one group per row) always fits."},
    {"E132", 2, "Rows are not whole blocks of the type, or not whole words of the container.",
     "K-quants store 256 weights per block, other GGUF types 32. llama.cpp silently stores such "
     "tensors in a larger type; the file is then larger than its name suggests.",
     "Set on_shape_fallback: allow to accept that, choose a type with smaller blocks (Q5_0, Q8_0, "
     "IQ4_NL), or leave the modules unquantized with a rule (skip: true)."},
    {"E133", 2, "A scheme, the rounding of inputs, and other keys contradict each other.",
     "A scheme (FP8_DYNAMIC, W4AFP8, ...) says everything about numbers, groups and inputs; "
     "another key may repeat that, but not say something else.",
     "Leave out one of the two keys that the message names."},
    {"E134", 2, "A scheme needs something that the job does not have.",
     "Static schemes (FP8) store the size of each linear's inputs, and kv_cache that of keys and "
     "values, which calibration text shows. "
     "Channel scales (awq, smoothquant) divide single rows, and rows that share a scale cannot be "
     "divided.",
     "Do what the message says, or choose a scheme with a scale a row (FP8_DYNAMIC)."},
    {"E135", 2, "A target size does not go with the job's other settings.",
     "The bits of every matrix are chosen for one export, from at least two options, by what "
     "calibration text shows.",
     "Do what the message says, or leave out target_bpw and target_size."},
    {"E136", 2, "The target size cannot be reached.",
     "Tensors that are not quantized (in folders the embedding and the head) and the smallest "
     "option set a lower limit.",
     "Choose a size between the two that the message names, or allow a smaller option in "
     "quantization.allocation.options."},
    {"E137", 2, "A GGUF type needs the importance of the columns, and the job has none.",
     "IQ1, IQ2 and IQ3_XXS have so few bits that columns must not count alike: llama-quantize "
     "refuses them without an importance matrix, too.",
     "Give calibration text, or quantization.imatrix with method rtn; or choose Q2_K, IQ3_S or a "
     "larger type."},

    // the job file: what a runtime could not load
    {"E141", 2, "The requested tensor-parallel size is not possible.",
     "A group must not span two ranks, and heads must be divided evenly. The message lists the "
     "sizes that work.",
     "Use one of these sizes or a smaller group_size, or remove require.tensor_parallel."},
    {"E142", 2, "Projections that vLLM fuses have different settings.",
     "vLLM fuses q, k and v (and gate and up) into one matrix, which has one bit width and one "
     "group size.",
     "Let the rule match all of them, such as 're:.*\\.(q|k|v)_proj$', or remove require.vllm."},
    {"E143", 2, "vLLM's Marlin kernel does not support a matrix of this shape.", "",
     "Skip the module with a rule, use a smaller tensor-parallel size, or remove require.vllm."},
    {"E144", 2, "vLLM's kernels for experts cannot load this model.", "",
     "Follow the message: skip routers, write desc_act: false, or remove require.vllm."},
    {"E145", 2, "'require' does not apply to gguf.",
     "vLLM's GGUF loader is experimental and documents no rules that could be checked.",
     "Remove 'require' from the export, or export gptq, awq or compressed-tensors."},
    {"E146", 2, "vLLM has no kernel for this bit width or group size.", "",
     "Use 4 or 8 bits, symmetric, with group_size 32, 64, 128 or -1; or remove require.vllm."},
    {"E147", 2, "transformers cannot load this folder.",
     "It reads compressed-tensors folders by way of that library, whose versions since 0.18 do not "
     "load zero points, and the experts of a layer as one tensor. Some classes store them so, and "
     "their experts are then loaded unquantized only.",
     "Use sym: true and one width for all experts of a layer, skip the experts where the message "
     "says so, or remove require.transformers."},
    {"E148", 2, "mlx-lm cannot load this folder.",
     "mlx-lm makes its own tensors of a checkpoint's, and stacks the experts of a layer. It does "
     "not have every class, and some of its classes stack only unquantized experts.",
     "Give all experts of a layer the same settings, leave them unquantized where the message says "
     "so, or export gguf."},

    // the job file: patterns
    {"E151", 2, "A rule matches nothing.",
     "A pattern with a typo would otherwise silently have no effect. The message names the nearest "
     "module.",
     "Correct the pattern, or write allow_no_match: true if this is intended."},
    {"E152", 2, "A rule's pattern is not valid.",
     "Patterns are exact names, globs (*, ?), or regular expressions after 're:'.",
     "Correct the place that the message names."},
    {"E153", 2, "A rule sets bits of a scheme that has none to set.",
     "Schemes of floating-point numbers (FP8, ...) have no other widths and groups.",
     "Leave the key out of the rule, or skip its modules."},

    // models
    {"E161", 3, "The model's architecture is not supported.",
     "calque does not guess how a model computes; it only runs known families.",
     "Use one of the architectures that the message lists."},
    {"E162", 3,
     "config.json, or another JSON file, is not JSON, is damaged or has unknown contents.", "",
     "Download the file again; if it is complete, the model uses a feature that the message "
     "names."},
    {"E163", 3, "The tensors do not fit the configuration.",
     "Names or shapes differ from those that config.json implies: shards of another model, an "
     "incomplete download, or an edited config.json.",
     "Restore config.json and the shards from the same source."},
    {"E164", 3, "The checkpoint holds a weight that is infinite or not a number.",
     "The file is damaged, or training diverged. The message gives the place.",
     "Download or convert it again. 'calque verify' checks files written by calque."},
    {"E165", 2, "This build of calque runs models on the CPU only.",
     "GPUs and device \"tensors\" need the LibTorch plug-in (libcalque_torch.so), which is missing "
     "or cannot be loaded.",
     "Set runtime.stages.forward: cpu, or build with CALQUE_TORCH=ON and keep the plug-in next to "
     "the program or in ../lib/calque."},
    {"E166", 2, "The compute dtype is unknown.", "", "Choose auto, float32 or bfloat16."},
    {"E167", 3, "A token id is outside the model's vocabulary.",
     "The text was tokenized for another model.", "Tokenize it with this model's tokenizer."},
    {"E168", 2, "SentencePiece cannot be loaded.",
     "tokenizer.model files need a plug-in, which calque does not find.",
     "Keep it next to the program or in ../lib/calque, or use a model with a tokenizer.json."},
    {"E169", 3, "The model is already quantized.",
     "Rounding it again adds a second loss, and results would be compared with the wrong original.",
     "Start from the original (F32, F16 or BF16). A GGUF file is read with model.allow_requantize: "
     "true; a folder can be written as plain weights by calque dequantize."},
    {"E170", 3, "A file of weights, or of statistics of weights, is damaged.",
     "Its header, or the index beside it, contradicts itself or the file's length. An interrupted "
     "download, or a git-lfs pointer in the place of the file, looks like this.",
     "Download or copy the file again, and compare its size with the original's."},
    {"E171", 2, "There is no tensor with that name.", "",
     "Use one of the names in the message; 'calque inspect --tensors' lists all."},
    {"E172", 2, "The output would replace the model or artifact that is being read.", "",
     "Choose another path for the export, or for --out."},
    {"E173", 3, "A file of the model's folder is not there.",
     "A link leads nowhere, or a git-lfs pointer stands in place of the file: the download was not "
     "completed.",
     "Download the file, or run 'git lfs pull' in the folder."},
    {"E174", 3, "A quantized model is damaged, or its settings and tensors contradict each other.",
     "", "Write or download it again; the message names the tensor and both values."},
    {"E175", 3, "A GGUF file holds tensors of a type that calque cannot decode.", "",
     "Use a file of one of the types in the message, or the original model."},

    {"E178", 3, "There is no such model, neither as a path nor in the Hugging Face cache.",
     "org/name means a model that Hugging Face's tools have downloaded, in HF_HUB_CACHE, "
     "HF_HOME/hub or ~/.cache/huggingface/hub. calque downloads nothing.",
     "Run the command in the message, or correct the path or the name."},
    {"E179", 3, "A model in the Hugging Face cache is not complete, or not one model.",
     "A download was interrupted or fetched some of the files; or the folder holds several GGUF "
     "files.",
     "Run the command in the message, which fetches what is missing, or give the file's path."},

    // sweeps
    {"E181", 2, "A key or value occurs twice in the sweep file.", "",
     "Remove one of them: each key is swept once, and each value is one point."},
    {"E182", 2, "`exclude` uses a key that is not swept.", "",
     "Use a key of grid or paired; the message lists them."},
    {"E183", 2, "The sweep file sets a key that each point sets by itself.",
     "Names, run folders and export paths come from the sweep's own folder.",
     "Remove the key; set `output` to choose where the sweep writes."},
    {"E184", 2, "`exclude` matches no point, or all of them.", "",
     "Correct its values; 'calque sweep FILE --list' numbers the points."},
    {"E185", 2, "Two points of the sweep are the same job.",
     "Their settings are written differently but mean the same, so they would be measured twice.",
     "Exclude one of them."},
    {"E186", 2, "Some points of the sweep are invalid.",
     "All points are planned before any runs; the message has each point's error.",
     "Exclude them, or set on_invalid: skip to have them listed as failed."},
    {"E187", 2, "Statistics cannot be shared between these points.",
     "With quantization.propagate_error: true a layer's inputs depend on the rounding of the "
     "layers before it.",
     "Set quantization.propagate_error: false, or leave statistics out of `share`."},
    {"E191", 4, "The sweep's folder cannot be written.", "",
     "Choose another `output`, or correct its permissions."},
    {"E192", 2, "--only or --shard does not select points of this sweep.", "",
     "'calque sweep FILE --list' shows the numbers; four shards are 0/4 to 3/4."},
    {"E195", 7, "Runs of the sweep failed.",
     "The other points are done; results.csv has each error.",
     "Remove the cause and repeat the command; finished points are skipped."},
    {"E197", 3, "Statistics saved for other points are damaged.", "",
     "Delete the folder that the message names; the statistics will be measured again."},

    // text and tokens
    {"E201", 3, "There is not enough text.",
     "Calibration needs exactly n_samples x seqlen tokens; with fewer it would not be the one you "
     "asked for. The message gives the number of rows available.",
     "Add data, or set n_samples to the number in the message."},
    {"E202", 3, "A file does not exist, or cannot be read.",
     "Paths in a job file are relative to it, not to the folder you are in. The message gives the "
     "system's reason.",
     "Correct the path or its permissions, or restore the file."},
    {"E203", 2, "The method needs calibration text.",
     "GPTQ and AWQ measure the inputs of each layer.",
     "Give calibration.sources ([builtin] for calque's own texts) or calibration.tokens, or use "
     "method: rtn."},
    {"E204", 2, "The weights of calibration sources do not add up.",
     "A weight is the share of the rows that a source gives; sources without one share the rest.",
     "Give weights from 0 to 1 that leave something for sources without a weight, or give every "
     "source one."},
    {"E205", 2, "calibration has both sources and tokens.", "", "Keep one of them."},
    {"E206", 2, "evaluate has no texts, or one of its entries has neither text nor tokens.", "",
     "Give evaluate.texts, each entry with either text or tokens."},
    {"E207", 2, "Sequences are longer than the model allows.",
     "Beyond max_position_embeddings a model's output is meaningless.",
     "Use the length that the message gives."},
    {"E208", 2, "Two exports write the same path.", "", "Give each its own path."},
    {"E209", 2, "An output file or folder already exists.",
     "calque replaces files only if told to.",
     "Set overwrite: true in the export (or give --overwrite), or choose another path."},
    {"E211", 3, "The tokenizer uses a part that is not implemented.",
     "A tokenizer that is only almost right gives other ids, and every measurement on them would "
     "be wrong. So calque does not guess.",
     "Instead of text, give token ids made with the model's own tokenizer (.safetensors)."},
    {"E212", 3, "A text file cannot be read.",
     "It is damaged (a truncated .gz or .zst, a line that is no JSON), lacks the key that holds "
     "the text, or is of a kind that is not text.",
     "Follow the message: download the file again, set text_column, or convert it to .txt or "
     ".jsonl."},
    {"E213", 3, "The tokenizer's files are missing, damaged, or contradict each other.",
     "Several files of a folder speak of the same tokens; src/text/README.md says which one is "
     "read.",
     "Copy all tokenizer files from one version of the model."},
    {"E214", 3, "A file of token ids cannot be used as it is.",
     "It needs integers of the model's vocabulary, one text a row from position 0, and a mask only "
     "where rows are padded at their ends.",
     "Write the file as the message says; the tensor is called input_ids."},
    {"E215", 3, "A chat template is not valid, or uses something that is not known.",
     "Templates are programs in Jinja. What chat templates of published models use is implemented; "
     "the rest is refused, because a text that differs a little from the model's own format would "
     "go unnoticed.",
     "The message names the part and its line. Name another template of the model "
     "(chat_template), or render the conversations yourself and give the text."},
    {"E216", 3, "A chat template fails on a conversation.",
     "The template refused it (raise_exception), used a value that is not there, or went on "
     "without an end. Many templates want roles to alternate, or refuse a system message or tools.",
     "The message gives the line of the template, and of the data. Change or remove the "
     "conversation, name another template of the model (chat_template), or set chat_plain."},
    {"E217", 3, "There are conversations, but the model has no chat template for them.",
     "Conversations become text by the model's own template; base models have none. A model with "
     "several templates has none of the name that the job asks for.",
     "Copy chat_template.jinja of the model's chat version into its folder, set chat_template to "
     "one of the names in the message, or set chat_plain to use plain text."},

    {"E218", 3, "calque's own calibration texts are not there.",
     "The word builtin in calibration.sources means texts that are installed with the program, in "
     "share/calque/calibration beside its folder.",
     "Install calque with cmake --install, or give text files."},

    {"E219", 3, "A line of a task file is not a question.",
     "A line is an object with question, answer and, for a multiple choice, choices; the message "
     "gives file and line. All lines of a file have choices, or none has.",
     "Correct the line. Two forms: {\"question\": \"2 + 2 =\", \"choices\": [\"3\", \"4\"], "
     "\"answer\": 1} (the index, or the choice itself) and {\"question\": \"2 + 2 =\", \"answer\": "
     "\"4\"}."},
    {"E220", 3, "A question of a task cannot be asked of this model.",
     "A question that is too long loses its beginning, as in lm-evaluation-harness; but the choice "
     "itself has to fit into the model's positions, and to add a token to the question.",
     "Shorten the choice, or leave the question out."},

    // evaluation
    {"E231", 2, "The reference and the artifact have different vocabularies.",
     "KL divergence compares two distributions over the same tokens.",
     "As the reference, give the model that the artifact was made from."},
    {"E232", 2, "There is nothing to predict.",
     "An evaluation needs at least one window of two tokens.",
     "Use a longer text or a shorter seqlen."},
    {"E233", 3, "A token id of the evaluation is outside the vocabulary.",
     "The text was tokenized for another model.", "Tokenize it with this model's tokenizer."},
    {"E234", 3, "The importance matrix does not fit the model.",
     "It was measured on another model, or is damaged.",
     "Measure it on this model: calque imatrix MODEL TEXT -o FILE."},

    {"E241", 2, "Attention heads are not whole blocks of the cache's type.",
     "llama.cpp's types store blocks of 32 numbers of one head.", "Use fp8 or f16 for this model."},
    {"E242", 2, "A text or task of the evaluation has no valid, unique name.",
     "Names become columns of tables: letters, digits, - and _, and no name twice.", "Rename it."},
    {"E243", 2, "`layers` of a cache is not a list of this model's layers.", "",
     "Write numbers and ranges, such as 0-3,7, below the number that the message gives."},
    {"E244", 2, "The key/value cache type is unknown.", "", "Use q8_0, q5_1, q4_0, fp8 or f16."},
    {"E245", 2, "An entry of evaluate.kv_cache has no type, or the name of another entry.", "",
     "Give k_type or v_type or both, and a `name` if two entries have the same types."},
    {"E246", 2, "The model has no BOS token.",
     "evaluate.add_bos: true begins every window with the token that the tokenizer puts first, or "
     "with config.json's bos_token_id.",
     "Set evaluate.add_bos: auto."},
    {"E247", 2, "The settings of a task do not fit its questions or the model.",
     "acc, acc_norm and acc_bytes are metrics of choices; answer_pattern must be a regular "
     "expression (PCRE2); max_new_tokens must leave room for the question in the model's "
     "positions.",
     "Change the setting that the message names."},

    // reports
    {"E251", 3, "The folder contains neither a run nor a sweep.",
     "A run folder has metrics.json, or job.resolved.yaml while it runs; a sweep folder has "
     "results.csv; "
     "an artifact folder written by calque has calque/metrics.json.",
     "Give the run_dir of a job or the output of a sweep. GGUF files contain no record of their "
     "run."},
    {"E252", 3, "A file in the record of the run or sweep is damaged.",
     "The message names the file and the place. calque writes these files completely or not at "
     "all, so something else has changed them.",
     "Restore the file, or repeat the run ('calque sweep' writes results.csv again)."},
    {"E253", 2, "Nothing was measured.",
     "The folders contain no finished model, or none with the results that the command needs.",
     "Let the run finish, or add 'evaluate' to the job."},
    {"E254", 2, "No measured model is within the bounds.",
     "The message gives the smallest model and the closest one.",
     "Relax --max-kl, --max-lost, --max-bytes or --max-bits-per-weight, or measure other "
     "settings."},
    {"E255", 2, "The runs were made from different originals.",
     "KL divergence is the distance to a model's own original, so it cannot tell which of two "
     "models with different originals is better.",
     "Give runs of one original. 'calque compare' shows models of different originals together, "
     "with their perplexity if it was measured on the same tokens."},

    // memory and disk
    {"E301", 4, "The memory limit is too small.",
     "The message lists the memory of the most demanding stage, with all activations in files.",
     "Set runtime.max_ram to the number in the message, or remove it. Fewer threads and fewer or "
     "shorter calibration rows need less memory."},
    {"E302", 4, "The disk is full.",
     "The message gives the space needed and the space available. Half-written files do not become "
     "visible; finished files do.",
     "Free some space, or move runtime.offload_dir and the export's path to a larger disk; then "
     "resume the run."},
    {"E303", 4, "A file or folder cannot be written.",
     "The message gives the system's reason; 'Not a directory' means that a file is where a folder "
     "should be.",
     "Choose another path (run_dir, the export's path, runtime.offload_dir), or correct its "
     "permissions."},
    {"E304", 4, "Memory ran out.",
     "Other programs may be using it, or a limit (ulimit, container) is below the prediction of "
     "the plan.",
     "Set a limit (runtime.max_ram; activations beyond it go to runtime.offload_dir), or use fewer "
     "calibration rows (calibration.n_samples) or threads (runtime.threads). Finished exports are "
     "kept."},

    {"E305", 2, "The run cannot be resumed.",
     "The model, a text, a setting or the program has changed since the run stopped, so the rest "
     "would not match. The message names the difference, with both values.",
     "Restore it, or start again: calque run JOB --resume never."},
    {"E306", 2, "Another process is working on this folder or export.",
     "Two runs would overwrite each other.",
     "Wait for the process that the message names, or choose another run_dir or export path."},
    {"E307", 3, "The saved state of the run is damaged.",
     "A journal that is merely truncated is used up to its last complete record; this one has "
     "other faults.",
     "Start again: calque run JOB --resume never. Finished exports are kept."},
    {"E308", 3, "A finished part is missing.",
     "The journal lists it, but the file is missing or belongs to another run.",
     "Restore it, or start again: calque run JOB --resume never."},

    // numbers
    {"E401", 5, "A module could not be rounded as requested, and no more fallbacks are allowed.",
     "Its Hessian is not positive definite even with the largest damping, because of inputs that "
     "are never active, extreme outliers, or too little text.",
     "Try more calibration text (n_samples), a larger damp_percent, or a rule with skip: true for "
     "the module; or allow fallbacks (quantization.fallback.max_modules), which the report lists."},
    {"E402", 5, "A number is too large for the type that should store it.",
     "F16, and the F16 scales of most block types and folders, end at 65504; beyond, a file would "
     "hold infinities, or values cut off. The message has the number's place and the type's limit.",
     "Store the matrix in a type that reaches further: BF16 or F32 (GGUF: tensor_types, "
     "embedding_type, output_type), or leave it unquantized (folders: a rule with skip: true)."},
    {"E403", 5, "The model's arithmetic gave infinities or numbers that are none.",
     "Nothing that is measured after that means anything. The weights are damaged (an exponent bit "
     "is enough), or the model overflows the precision that it runs in. The message names the "
     "first block where it shows.",
     "Check the weights ('calque inspect' shows each tensor's largest); in bfloat16 try float32 "
     "(runtime.forward_dtype: float32)."},
};

}  // namespace

std::span<const ErrorEntry> error_table() { return kErrors; }

const ErrorEntry* find_error(std::string_view code) {
  const auto found = std::ranges::find(kErrors, code, &ErrorEntry::code);
  return found == std::end(kErrors) ? nullptr : found;
}

}  // namespace calque
