"""judge.py DATA STEP OUT --index ship.lance:folio-1 --index cand.lance:/path ... --rerankers folio-1 /path"""
import argparse, json, time, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import configs.settings as configs
import retrieval.encoders
from rerankers.text import TextReranker
from retrieval.evaluation import evaluate, replay
from retrieval.search import Searcher
from retrieval.store.store import Store

class Cached:
    listwise=False; notes=()
    def __init__(self, inner): self.inner=inner; self.name=inner.name; self.batch_pages=inner.batch_pages; self.cache={}; self.cpu=0.0; self.wall=0.0; self.pages=0
    def score(self, query, pages):
        missing=[p for p in pages if (query,p.page.page_id,p.focus) not in self.cache]
        if missing:
            c,w=time.process_time(),time.perf_counter()
            for p,s in zip(missing, self.inner.score(query, missing)): self.cache[query,p.page.page_id,p.focus]=s
            self.cpu+=time.process_time()-c; self.wall+=time.perf_counter()-w; self.pages+=len(missing)
        return [self.cache[query,p.page.page_id,p.focus] for p in pages]

def main():
    a=argparse.ArgumentParser(); a.add_argument("data",type=Path); a.add_argument("out",type=Path)
    a.add_argument("--every",type=int,default=1); a.add_argument("--index",action="append"); a.add_argument("--reranker",action="append",default=[])
    a.add_argument("--scope",default="within,all"); a.add_argument("--read",type=int,default=20)
    o=a.parse_args()
    data=evaluate.read_dataset(o.data)
    data=replace(data, questions=data.questions[::o.every])
    s=configs.load_profile("cpu")
    values={}
    rer=[None]
    for name in o.reranker: rer.append(Cached(TextReranker(configs.Text(model=name))))
    for spec in o.index:
        uri,model=spec.split("=")
        store=Store.open(uri); enc=retrieval.encoders.load_encoder(configs.Words(model=model))
        for scope in o.scope.split(","):
            for r in (rer if len(rer)==1 else rer[1:]):
                search=s.search.model_copy(update={"depth":2*replay.FIRST,"rerank":o.read if r else 1,"gate":None,"rules":()})
                sr=Searcher(store,enc,r,search)
                t=time.time()
                judged=list(replay.judge_candidates(data,sr,within=scope=="within"))
                for w in ([s.search.rerank_weight, 0.5, 1.0, 100.0] if r else [0.25]):
                    ev=replay.evaluate_stages(data,judged,replay.RerankPolicy(s.search.text_weight,w,o.read if r else 0))
                    for stage in ("text","vectors","first stage","reranked"):
                        if stage=="reranked" and not r: continue
                        if stage!="reranked" and w!=s.search.rerank_weight: continue
                        key=f"{scope}|{Path(model).name}|{stage}" + (f"|{r.name}|{w}" if stage=="reranked" else "")
                        values[key]={m:list(v) for m,v in ev.values[stage].items()}
                        print(key, {m:round(100*float(np.mean(v)),1) for m,v in ev.values[stage].items()}, flush=True)
                print("  seconds", round(time.time()-t), *( (r.name, "cpu ms/page", round(1000*r.cpu/max(1,r.pages),1), "wall", round(1000*r.wall/max(1,r.pages),1), r.pages) if r else ()), flush=True)
    o.out.write_text(json.dumps({"kinds":[list(q.attributes.get("kind",())) for q in data.questions],"sources":[list(q.attributes.get("sources",())) for q in data.questions],"values":values}))
    keys=[k for k in values]
    print("paired p on nDCG@10")
    for i,x in enumerate(keys):
        for y in keys[i+1:]:
            a,b=x.split("|"),y.split("|")
            if a[0]!=b[0]: continue
            if (a[2]==b[2]):
                u,v=values[x]["nDCG@10"],values[y]["nDCG@10"]
                print(f"{x} -> {y}: {100*(np.mean(v)-np.mean(u)):+.2f} p={evaluate.paired_p(u,v):.4f}")
if __name__=="__main__": main()
