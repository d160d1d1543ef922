import sys, time
from pathlib import Path
from rerankers.train import export as ex
from retrieval.models.onnx import ModelFolder
from ui.cli.train_steps import minilm_folder, passage_groups
orig = ex._parity
def show(e,a):
    import numpy as np
    for n in range(len(e[0])):
        x,y=(np.concatenate([r[n].ravel() for r in s]) for s in (e,a)); print(ex.OUTPUTS["reader"][n], np.corrcoef(x,y)[0,1], abs(x-y).max(), x.std())
    return orig(e,a)
ex._parity=show
texts=[(g.question,g.positive) for g in passage_groups([Path("/work/shared/data/train/groups.jsonl.gz")])[:200]]
print(ex.export("reader", Path("/tmp/runs-gpu/reader"), Path("/tmp/judge/cand-reader"), minilm=minilm_folder(None), texts=texts, base=ModelFolder("folio-1").path))
