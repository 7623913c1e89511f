"""The archive that Mao et al. keep of "The training process of many deep networks explores …".

A folder of theirs holds, by name:

``{"seed":42,"m":"allcnn",…}.p``
    a run, its configuration in the name as JSON: what `torch.save` wrote of a list with a mapping
    for each checkpoint, of ``{"data": that list, "configs": settings}``, or of a pandas DataFrame
    with a row for each. ``yh`` are the predictions on the training set and ``yvh`` on the test set,
    as log-probabilities, or as probabilities where none is negative. Labels are not in it.
``w_yh_all.h5``
    the distances of all models in the dataset ``w``: D, not the centred W (see
    `collectors.distance_files`); ``yh`` on the training set, ``yvh`` on the test set.
``didx_yh_all.p``, or ``didx_all.p``
    the index table of that matrix: a pandas DataFrame with a row for each model.

Tables of pandas are pickles of classes, which nothing but ``allow_pickle`` loads; an index table
may also be a ``.csv``. Every file of the folder is accounted for.
"""
