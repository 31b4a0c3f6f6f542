// Every word of the page, in its languages. {x} is filled in by t.

const en = {
  views: 'View', components: 'Components', objects: 'Objects', story: 'Story',
  pause: 'Pause', resume: 'Go on', resumeNew: 'Go on ({n} new)', pace: 'Pace', paceLive: 'live', paceSlow: 'slow', paceSlowest: 'very slow',
  noise: 'All', noiseHint: 'Show leases, events, heartbeats and what the apiserver does for itself', large: 'Larger type', theme: 'Dark or light',
  language: 'Language', help: 'Keys', timeline: 'What happened', quiet: 'Nothing has happened yet. Try, in a terminal:', only: 'Only {name}', showAll: 'show all',
  lost: 'No connection to the cluster; trying again…', stranger: 'The cluster has been started anew. Open the link that “hyperkube page --url” prints.',
  missed: '{n} entries were not shown: too many at a time', close: 'Close', loading: 'Reading…',
  gates: 'Step through a component', flowing: 'flows', held: '{n} held', nothingHeld: 'held; nothing waits', next: 'next', stopAt: 'Step', one: 'One', goOn: 'Continue',
  stopAtHint: 'Hold what {name} would be told', oneHint: 'Let {name} have one event', goOnHint: 'Let everything flow to {name}', passed: 'passed',
  controller: 'A single controller…', notConnected: 'not connected',
  changed: 'What changed', made: 'Made with', removed: 'It was removed', noChange: 'Nothing that is stored', did: 'What was done', source: 'The line that did it',
  noSource: '{name} is no part of this binary: it says no line of code.', chain: 'Because of', caused: 'It caused', told: 'Who was told',
  allowed: 'Allowed', admission: 'Admission', user: 'User', took: 'took', storyOf: 'Story of {name}', whyOf: 'Why is it so?', refused: 'refused',
  observed: 'the component said so', inferred: 'inferred: it was told of that before', claimed: 'the client says so', after: 'after {t}',
  workloads: 'From controller to container', network: 'From Service to rule', noObjects: 'No objects', system: 'Also kube-system',
  choose: 'Choose an object under “Objects”, or say which:', show: 'Show', noStory: 'Nothing is recorded of {name}.', lostStory: 'Older entries are no longer kept: this may begin in the middle.',
  keys: 'Keys', keyViews: 'Components, Objects, Story', keyPause: 'pause the picture', keyMove: 'up and down in the list', keyOpen: 'open', keyClose: 'close',
  keyStep: 'step the scheduler', keyOne: 'let one event through', keyContinue: 'continue', keyNoise: 'show all, or what matters', keyLarge: 'larger type', keyTheme: 'dark or light',
  keyLanguage: 'language', keyHelp: 'this list',
  legend: '—› request   ┄› told by a watch   ◉ done besides', clients: 'clients', healthy: 'healthy', unhealthy: 'not healthy: {why}', gone: 'gone',
}

const ja = {
  views: '表示', components: 'コンポーネント', objects: 'オブジェクト', story: '経過',
  pause: '一時停止', resume: '再開', resumeNew: '再開（新着 {n} 件）', pace: '速さ', paceLive: '実時間', paceSlow: 'ゆっくり', paceSlowest: 'とてもゆっくり',
  noise: 'すべて', noiseHint: 'リース、イベント、死活通知、apiserver 自身の処理も表示します', large: '文字を大きく', theme: '明るさの切り替え',
  language: '言語', help: 'キー操作', timeline: 'できごと', quiet: 'まだ何も起きていません。端末で試してみましょう：', only: '{name} のみ', showAll: 'すべて表示',
  lost: 'クラスターに接続できません。再接続しています…', stranger: 'クラスターが再起動されました。「hyperkube page --url」が表示するリンクを開いてください。',
  missed: '一度に多すぎたため、{n} 件を表示していません', close: '閉じる', loading: '読み込み中…',
  gates: 'コンポーネントを一歩ずつ進める', flowing: '通常動作', held: '{n} 件保留中', nothingHeld: '停止中・保留なし', next: '次', stopAt: '止める', one: '一つ進める', goOn: '続ける',
  stopAtHint: '{name} への通知を止めます', oneHint: '{name} に通知を一つだけ渡します', goOnHint: '{name} への通知をすべて流します', passed: '渡したもの',
  controller: 'コントローラーを一つ選ぶ…', notConnected: '未接続',
  changed: '変わったところ', made: '作成時の内容', removed: '削除されました', noChange: '保存された変更はありません', did: '行われたこと', source: 'これを行ったコード',
  noSource: '{name} はこのバイナリーの一部ではないため、コードの行はわかりません。', chain: 'きっかけ', caused: '引き起こしたこと', told: '通知を受けたもの',
  allowed: '許可の根拠', admission: 'アドミッション', user: 'ユーザー', took: '所要時間', storyOf: '{name} の経過', whyOf: 'なぜこの状態なのか', refused: '拒否',
  observed: 'コンポーネント自身の申告', inferred: '推定：その前に通知を受けている', claimed: 'クライアントの申告', after: '{t} 後',
  workloads: 'コントローラーからコンテナーまで', network: 'Service からルールまで', noObjects: 'オブジェクトはありません', system: 'kube-system も表示',
  choose: '「オブジェクト」で選ぶか、ここで指定してください：', show: '表示', noStory: '{name} の記録はありません。', lostStory: '古い記録は残っていないため、途中から始まっている場合があります。',
  keys: 'キー操作', keyViews: 'コンポーネント、オブジェクト、経過', keyPause: '画面を一時停止', keyMove: '一覧を上下に移動', keyOpen: '開く', keyClose: '閉じる',
  keyStep: 'スケジューラーを止める', keyOne: '通知を一つ渡す', keyContinue: '続ける', keyNoise: 'すべて／主なものだけ', keyLarge: '文字を大きく', keyTheme: '明るさの切り替え',
  keyLanguage: '言語', keyHelp: 'この一覧',
  legend: '—› リクエスト   ┄› watch による通知   ◉ その他の動作', clients: 'クライアント', healthy: '正常', unhealthy: '異常：{why}', gone: '削除',
}

const languages = {en, ja}

/** language is that of the page now. */
export let language = 'en'

/** t is the text of a key in the page's language. */
export function t(key, values) {
  let text = languages[language][key] ?? key
  for (const [name, value] of Object.entries(values ?? {})) text = text.replace(`{${name}}`, value)
  return text
}

/** speak chooses a language, or that of the browser, and writes it wherever HTML names a text. */
export function speak(chosen) {
  language = languages[chosen] ? chosen : navigator.language.startsWith('ja') ? 'ja' : 'en'
  document.documentElement.lang = language
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = t(element.dataset.text)
  for (const element of document.querySelectorAll('[data-title]')) element.title = element.ariaLabel = t(element.dataset.title)
  for (const element of document.querySelectorAll('[data-label]')) element.ariaLabel = t(element.dataset.label)
}
