"""The trace of a whole step: every intermediate array of one update, by name and in order.

A vector checks one function; a system is wrong more often *between* its functions, where a mask,
a shift or a temperature is handed on.  So here is one step of each kind from given models and a
given batch, in float64: nothing is sampled, nothing is drawn.

    vectors/v1/ppo_step/            policy and value model, from log-probs to the parameters after
    vectors/v1/reward_model_step/   scores of pairs, Bradley-Terry, the parameters after
    vectors/v1/grpo_step/           as PPO's, with advantages within groups

Each folder holds the models (Hugging Face's layout), `batch.safetensors` (what is given),
`trace.safetensors` (every array) and `trace.json` (their order, formula, shape, what each is
computed from, and which known mistakes would first show there).

How to use it: load the models and the batch into your system, do the step, save any of the arrays
under these names, in safetensors or as .npz.  `minirlhf verify --trace FILE` then names the
*first* array that departs; what merely follows from it is not blamed.

    rules      a step as a list of named rules, and the environment that evaluates them
    functions  the package's own functions, by the names under which rules look them up
    steps      the three steps
    misread, misrewarded, misgrouped, misjudged, misupdated, mistakes
               what known mistakes would compute instead
    batch, folder
               reading and writing all of this
    compare, locate, told
               the first array that departs, where, by how much, and what explains it
"""
