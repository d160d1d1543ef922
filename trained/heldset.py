import json, shutil
from pathlib import Path
q=Path("/work/shared/data/questions"); out=Path("/tmp/judge/held"); (out/"pdfs").mkdir(parents=True,exist_ok=True)
rows=[json.loads(l) for l in open(q/"questions.jsonl")]
src={json.loads(l)['file']:json.loads(l) for l in open(q/'sources.jsonl')}
h=[r for r in rows if r["split"]=="held"]
for f in {r["file"] for r in h}: shutil.copy(q/"pdfs"/f, out/"pdfs"/f)
with open(out/"queries.jsonl","w") as a, open(out/"qrels.txt","w") as b:
    for r in h:
        a.write(json.dumps({"query_id":r["id"],"text":r["q"],"document":r["file"],"kind":[r["kind"]],"sources":[src[r["file"]]["kind"]]},ensure_ascii=False)+"\n")
        golds=dict.fromkeys([(r["file"],r["page"]), *map(tuple,r.get("also",[]))])
        for f,p in golds: b.write(f"{r['id']} 0 {f}#page={p} 1\n")
